r"""The tutorial's CIFAR-10 network: conv 32, max pool, conv 64, max pool, dense 512, dense 10; Adam 1e-3, 10 epochs.

    python -m experiments.cifar10                     # downloads CIFAR-10 once, 162 MiB
    python -m experiments.cifar10 --data-dir FOLDER   # a copy that is already there
    python -m experiments.cifar10 --epochs 40 --normalize --flip --shift 4 --optimizer adamw \
        --learning-rate 3e-3 --weight-decay 0.05 --schedule one-cycle --label-smoothing 0.1   # the same network, helped
    python -m experiments.cifar10 --precision bf16                  # computes in half precision

The plain recipe reproduces the curve of the same network in Keras. Leaves config.json, metrics.jsonl, curves.png,
confusion.png, filters.png and predictions.png in the run folder.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from flax import nnx

from experiments.classify import Training, classify
from experiments.cli.command import run
from jaxnn import models, train
from jaxnn.data import Dataset


@dataclasses.dataclass
class Options(Training):
    """The network's options."""

    data: Literal["digits", "cifar10", "idx"] = "cifar10"
    """The pictures: scikit-learn's digits (8x8, no network needed), CIFAR-10, or MNIST-format files (idx)."""
    run: Path = Path("runs/cifar10")
    """The run folder; a number is added where it exists, nothing is overwritten."""


def main(options: Options) -> None:
    """Trains the network."""

    def network(pictures: Dataset, rngs: nnx.Rngs) -> nnx.Module:
        shape = pictures.train.images.shape[1:]
        # Digits of 8x8 are too small for two convolutions that lose their borders.
        padding = "VALID" if min(shape[:2]) >= 10 else "SAME"
        dtypes = train.precision(options.precision)
        return models.Cifar10Net(shape, classes=len(pictures.classes), padding=padding, **dtypes, rngs=rngs)

    classify(options, network)


if __name__ == "__main__":
    run(main, Options, __doc__)
