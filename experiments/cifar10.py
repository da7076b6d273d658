r"""Classifies CIFAR-10: conv 32, max pool, conv 64, max pool, dense 512, dense 10; Adam 1e-3, 10 epochs.

    python -m experiments.cifar10                     # finds CIFAR-10, or downloads it once, 162 MiB
    python -m experiments.cifar10 --data-dir FOLDER   # a copy that is already there
    python -m experiments.cifar10 --data cifar100     # a hundred classes
    python -m experiments.cifar10 --epochs 40 --normalize --flip --shift 4 --optimizer adamw \
        --learning-rate 3e-3 --weight-decay 0.05 --schedule one-cycle --label-smoothing 0.1   # a better recipe
    python -m experiments.cifar10 --precision bf16                  # computes in half precision

The plain recipe reproduces the curve of the same network in Keras. Writes config.json, metrics.jsonl, curves.png,
confusion.png, filters.png, predictions.png and model.jaxprogram, which `python -m experiments.serve` reads, to the run
folder.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import pictures
from jaxnn import cli, models
from jaxnn.data.loading import Name


@dataclasses.dataclass(frozen=True)
class Options(pictures.Training):
    """The network's options: the plain recipe."""

    data: Name = "cifar10"
    run: Path = Path("runs/cifar10")


def main(options: Options) -> None:
    """Trains the network and draws what it learned."""
    pictures.learn(options, network, "conv1")


def network(picture: Sequence[int], classes: int, **options: Any) -> models.Cifar10Net:
    """The network for pictures of this shape."""
    # 8x8 digits are too small for two convolutions without padding.
    padding = "VALID" if min(picture[:2]) >= 10 else "SAME"
    return models.Cifar10Net(picture, classes=classes, padding=padding, **options)


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
