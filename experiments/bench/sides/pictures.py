"""Pictures: random ones in a network's shape, or the real ones of CIFAR-10."""

import numpy as np

from experiments.bench.network import NETWORKS
from jaxnn import data
from jaxnn.data import Examples


def pictures(network: str, number: int, data_dir: str | None = None) -> Examples:
    """Pictures in uint8 and their labels: random ones, or those of CIFAR-10 in the folder `data_dir`."""
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
