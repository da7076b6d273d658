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

from experiments import pictures
from jaxnn import cli, models, plots, train


@dataclasses.dataclass(frozen=True)
class Options(pictures.Training):
    """LeNet's options."""

    model: Literal["lenet", "lenet5-1998"] = "lenet"
    """The tutorial's network, or LeCun's of 1998."""
    epochs: cli.Count = 40
    batch_size: cli.Count = 32
    learning_rate: cli.Number = 2e-3
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    l2: cli.Number = 1e-4
    normalize: bool = True
    shift: cli.Natural = 1
    run: Path = Path("runs/lenet5")


def main(options: Options) -> None:
    """Trains the chosen LeNet, and draws what it learned."""
    dataset = pictures.load(options)
    shape, classes, rngs = dataset.train.images.shape[1:], len(dataset.classes), nnx.Rngs(options.seed)
    network, first = (models.LeNet, "conv1") if options.model == "lenet" else (models.LeNet5, "c1")
    model = network(shape, classes=classes, **train.precision(options.precision), rngs=rngs)
    work = pictures.work_of(options, dataset)
    parameters = pictures.introduce(model, dataset)
    tx = pictures.optimizer_of(options, dataset, options.learning_rate)
    create = functools.partial(pictures.create_state, options, model, tx)
    if options.dry_run:
        cli.dry_run(options, create, **work)
        return
    folder = cli.folder_of(options)
    kept = cli.keeping(options, folder, best="test_accuracy", free=pictures.FREE)
    state, history = train.fit(create(), **work, **kept)
    state, predicted, accuracy = pictures.judge(state, work)
    if train.devices.distributed.is_first():
        plots.filters(state.params[first]["kernel"], folder / "filters.png")
        pictures.leave(folder, state, work["preprocess"], dataset, predicted)
        pictures.report(folder, accuracy, history, parameters)


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
