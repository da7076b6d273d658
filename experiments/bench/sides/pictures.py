"""Pictures to work on: random ones of a network's shape, or real ones."""

import numpy as np

from experiments.bench.network import NETWORKS
from jaxnn import data
from jaxnn.data import Examples


def pictures(network: str, number: int, data_dir: str | None = None) -> Examples:
    """So many pictures, uint8, and their labels; real ones of CIFAR-10 where there is a folder with them."""
    if data_dir is not None:
        train = data.load("cifar10", data_dir).train
        return Examples(train.images[:number], train.labels[:number])
    rng = np.random.default_rng(0)
    return Examples(
        rng.integers(0, 256, (number, *NETWORKS[network].picture), np.uint8), rng.integers(0, 10, number, np.int32)
    )


def batches(network: str, batch: int, steps: int) -> list[Examples]:
    """Random pictures in batches."""
    images, labels = pictures(network, batch * steps)
    return [Examples(images[i : i + batch], labels[i : i + batch]) for i in range(0, batch * steps, batch)]
