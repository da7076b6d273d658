"""LeNet learns to read digits: two conv layers of 32 and 64 filters, pooling, dense 512 and 10, L2 regularisation.

    python -m experiments.lenet5
    python -m experiments.lenet5 --model lenet5-1998 --data idx --data-dir FOLDER_WITH_MNIST_FILES
    python -m experiments.lenet5 --data cifar10 --epochs 10 --flip --shift 4

Leaves config.json, metrics.jsonl, curves.png, confusion.png, filters.png and predictions.png in the run folder.
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
    """LeNet's options."""

    model: Literal["lenet", "lenet5-1998"] = "lenet"
    """The tutorial's network, or LeCun's of 1998."""
    epochs: int = 40
    """Passes over the training pictures."""
    batch_size: int = 32
    """Pictures a step."""
    learning_rate: float = 2e-3
    """The highest learning rate of the run."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    """How the learning rate goes: constant, warm-up and cosine, or one-cycle."""
    l2: float = 1e-4
    """Scale of the L2 penalty of the weights, added to the loss."""
    normalize: bool = True
    """Bring each colour to mean zero and variance one over the training pictures, besides scaling to 0 to 1."""
    shift: int = 1
    """Shift each training picture by up to this many pixels, its border reflected."""
    run: Path = Path("runs/lenet5")
    """The run folder; a number is added where it exists, nothing is overwritten."""


def main(options: Options) -> None:
    """Trains the chosen LeNet."""

    def network(pictures: Dataset, rngs: nnx.Rngs) -> nnx.Module:
        shape, classes = pictures.train.images.shape[1:], len(pictures.classes)
        dtypes = train.precision(options.precision)
        if options.model == "lenet":
            return models.LeNet(shape, classes=classes, **dtypes, rngs=rngs)
        return models.LeNet5(shape, classes=classes, **dtypes, rngs=rngs)

    classify(options, network)


if __name__ == "__main__":
    run(main, Options, __doc__)
