"""LeNet learns to read digits: two conv layers of 32 and 64 filters, pooling, dense 512 and 10, L2 regularisation.

    python -m experiments.lenet5
    python -m experiments.lenet5 --model lenet5-1998 --data mnist
    python -m experiments.lenet5 --data cifar10 --epochs 10 --flip --shift 4

Leaves config.json, metrics.jsonl, curves.png, confusion.png, filters.png, predictions.png and model.jaxprogram, which
`python -m experiments.serve` reads, in the run folder.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Literal

from flax import nnx

from experiments.cli.checks import Count, Natural, Number
from experiments.cli.command import run
from experiments.cli.options import folder_of, foretell, keeping
from experiments.cli.pictures import Training, create_state, introduce, judge, leave, load, recipe_of, report
from jaxnn import models, plots, train


@dataclasses.dataclass(frozen=True)
class Options(Training):
    """LeNet's options."""

    model: Literal["lenet", "lenet5-1998"] = "lenet"
    """The tutorial's network, or LeCun's of 1998."""
    epochs: Count = 40
    batch_size: Count = 32
    learning_rate: Number = 2e-3
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    l2: Number = 1e-4
    normalize: bool = True
    shift: Natural = 1
    run: Path = Path("runs/lenet5")


def main(options: Options) -> None:
    """Trains the chosen LeNet, and draws what it learned."""
    pictures = load(options)
    shape, classes, rngs = pictures.train.images.shape[1:], len(pictures.classes), nnx.Rngs(options.seed)
    network, first = (models.LeNet, "conv1") if options.model == "lenet" else (models.LeNet5, "c1")
    model = network(shape, classes=classes, **train.precision(options.precision), rngs=rngs)
    recipe = recipe_of(options, pictures, options.learning_rate)
    parameters = introduce(model, pictures)
    create = functools.partial(create_state, options, recipe, model)
    if options.dry_run:
        foretell(options, create, pictures.train, recipe.loss_fn, **recipe.how)
        return
    folder = folder_of(options)
    kept = keeping(options, folder, best="test_accuracy")
    state, history = train.fit(create(), pictures.train, recipe.loss_fn, **recipe.how, **kept)
    state, predicted, accuracy = judge(state, recipe, pictures)
    if train.distributed.is_first():
        plots.filters(state.params[first]["kernel"], folder / "filters.png")
        leave(folder, state, recipe, pictures, predicted)
        report(folder, accuracy, history, parameters)


if __name__ == "__main__":
    run(main, Options, __doc__)
