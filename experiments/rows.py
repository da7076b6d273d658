"""An LSTM reads pictures row by row, and dense layers classify them: trained jointly, and beside it with a frozen LSTM.

    python -m experiments.rows
    python -m experiments.rows --data mnist
    python -m experiments.rows --data cifar10 --epochs 10 --flip --layers 2 --hidden 256

Both networks start from the same weights. In the frozen one the LSTM keeps its random start and only the dense layers
learn, so the difference is what training the LSTM and the dense layers together gains. Leaves config.json, result.json,
metrics.jsonl and, of the joint network, confusion.png, predictions.png and model.jaxprogram, which `python -m
experiments.serve` reads, and curves.png of both in the run folder, and checkpoints of both on the way:
`python -m experiments.rows --resume runs/rows` goes on with a run that was stopped.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from flax import nnx

from experiments.cli.checks import expect_counts, expect_share
from experiments.cli.command import run
from experiments.cli.options import folder_of
from experiments.cli.pictures import Training, draw, export, fit, foretell, introduce, load, recipe_of
from jaxnn import models, plots, train

NETWORKS = ("joint", "frozen")
"""The networks' folders of checkpoints, in the order of training."""
NOT_LSTM = nnx.Not(nnx.PathContains("lstm"))
"""What is trained where the LSTM is frozen."""


@dataclasses.dataclass(frozen=True)
class Options(Training):
    """The reader's options."""

    hidden: int = 128
    """Memory cells of each LSTM layer."""
    layers: int = 1
    """LSTM layers, one on top of another."""
    dense: int = 128
    """Features of the dense layer between LSTM and classes."""
    dropout: float = 0.2
    """Rate of dropout between LSTM layers and on what the dense layers see."""
    epochs: int = 40
    """Passes over the training pictures, for each of the two networks."""
    batch_size: int = 32
    learning_rate: float = 3e-3
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    normalize: bool = True
    shift: int = 1
    run: Path = Path("runs/rows")


def main(options: Options) -> None:
    """Trains both networks and says what each reached."""
    expect_counts(options, "hidden", "layers", "dense")
    expect_share(options, "dropout")
    pictures = load(options, NETWORKS)
    recipe = recipe_of(options, pictures, options.learning_rate)
    shape = pictures.train.images.shape[1:]

    def network() -> models.RowReader:
        return models.RowReader(
            shape,
            hidden=options.hidden,
            layers=options.layers,
            dense=options.dense,
            classes=len(pictures.classes),
            dropout=options.dropout,
            **train.precision(options.precision),
            rngs=nnx.Rngs(options.seed),
        )

    parameters = introduce(network(), pictures)
    if options.dry_run:
        print("the network with its LSTM frozen takes as many steps again; trained jointly:")
        foretell(options, recipe, network(), pictures)
        return
    folder = folder_of(options, NETWORKS)
    print("LSTM and dense layers, trained jointly:")
    joint = fit(options, recipe, network(), pictures, folder, network="joint")
    print("dense layers alone, the LSTM frozen at its random start:")
    frozen = fit(options, recipe, network(), pictures, folder, network="frozen", wrt=NOT_LSTM, log=False)
    if not train.devices.distributed.is_first():
        return
    plots.compare({"joint": joint.history, "frozen LSTM": frozen.history}, folder / "curves.png")
    draw(folder, joint, pictures)
    export(folder, recipe, joint, pictures)
    result = {
        "test_accuracy": joint.accuracy,
        "test_accuracy_frozen": frozen.accuracy,
        "seconds": joint.seconds,
        "seconds_frozen": frozen.seconds,
        "parameters": parameters,
    }
    folder.write_json("result.json", result)
    print(
        f"test accuracy {joint.accuracy:.2%} trained jointly ({joint.seconds:.0f} s), {frozen.accuracy:.2%} with the "
        f"LSTM frozen ({frozen.seconds:.0f} s); pictures and metrics are in {folder.path}"
    )


if __name__ == "__main__":
    run(main, Options, __doc__)
