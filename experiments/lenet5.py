"""LeNet learns to read digits: two conv layers of 32 and 64 filters, pooling, dense 512 and 10, L2 regularisation.

    python -m experiments.lenet5
    python -m experiments.lenet5 --model lenet5-1998 --data mnist
    python -m experiments.lenet5 --data cifar10 --epochs 10 --flip --shift 4

Leaves config.json, metrics.jsonl, curves.png, confusion.png, filters.png, predictions.png and model.jaxprogram, which
`python -m experiments.serve` reads, in the run folder.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from flax import nnx

from experiments.cli.command import run
from experiments.cli.options import folder_of
from experiments.cli.pictures import Training, draw, export, fit, foretell, introduce, load, recipe_of, report
from jaxnn import models, plots, train


@dataclasses.dataclass(frozen=True)
class Options(Training):
    """LeNet's options."""

    model: Literal["lenet", "lenet5-1998"] = "lenet"
    """The tutorial's network, or LeCun's of 1998."""
    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 2e-3
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    l2: float = 1e-4
    normalize: bool = True
    shift: int = 1
    run: Path = Path("runs/lenet5")


def main(options: Options) -> None:
    """Trains the chosen LeNet, and draws what it learned."""
    pictures = load(options)
    shape, classes, rngs = pictures.train.images.shape[1:], len(pictures.classes), nnx.Rngs(options.seed)
    network, first = (models.LeNet, "conv1") if options.model == "lenet" else (models.LeNet5, "c1")
    model = network(shape, classes=classes, **train.precision(options.precision), rngs=rngs)
    recipe = recipe_of(options, pictures, options.learning_rate)
    parameters = introduce(model, pictures)
    if options.dry_run:
        foretell(options, recipe, model, pictures)
        return
    folder = folder_of(options)
    learned = fit(options, recipe, model, pictures, folder)
    if train.devices.distributed.is_first():
        plots.filters(learned.state.params[first]["kernel"], folder / "filters.png")
        draw(folder, learned, pictures)
        export(folder, recipe, learned, pictures)
        report(folder, learned, parameters)


if __name__ == "__main__":
    run(main, Options, __doc__)
