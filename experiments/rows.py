"""An LSTM reads pictures row by row and dense layers classify them: trained jointly, and with the LSTM frozen.

    python -m experiments.rows
    python -m experiments.rows --data mnist
    python -m experiments.rows --data cifar10 --epochs 10 --flip --layers 2 --hidden 256

Both networks start from the same weights. In the frozen one the LSTM keeps its random weights and only the dense layers
learn, so the difference shows the gain of joint training. Writes config.json, result.json, curves.png of both and, of
the joint network, metrics.jsonl, confusion.png, predictions.png and model.jaxprogram.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from flax import nnx

from experiments import pictures
from jaxnn import cli, models, plots, train

NETWORKS = ("joint", "frozen")
"""The networks in the order of training; their checkpoints are in folders of these names."""
NOT_LSTM = nnx.Not(nnx.PathContains("lstm"))
"""Selects the parameters to train when the LSTM is frozen."""


@dataclasses.dataclass(frozen=True)
class Options(pictures.Training):
    """The reader's options."""

    hidden: cli.Count = 128
    """Memory cells of each LSTM layer."""
    layers: cli.Count = 1
    """Stacked LSTM layers."""
    dense: cli.Count = 128
    """Features of the dense layer between LSTM and classes."""
    dropout: cli.Share = 0.2
    """Rate of dropout between LSTM layers and before the dense layers."""
    epochs: cli.Count = 40
    """Passes over the training pictures, for each of the two networks."""
    batch_size: cli.Count = 32
    learning_rate: cli.Number = 3e-3
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    normalize: bool = True
    shift: cli.Natural = 1
    run: Path = Path("runs/rows")


def main(options: Options) -> None:
    """Trains both networks and prints their accuracies."""
    dataset = pictures.load(options, NETWORKS)
    work = pictures.work_of(options, dataset)
    tx = pictures.optimizer_of(options, dataset, options.learning_rate)
    sizes = {name: getattr(options, name) for name in ("hidden", "layers", "dense", "dropout")}
    sizes |= {"classes": len(dataset.classes), **train.precision(options.precision)}

    def create(wrt: Any = None) -> train.TrainState:
        """Creates the state; its weights do not depend on what is trained."""
        model = models.RowReader(dataset.train.images.shape[1:], **sizes, rngs=nnx.Rngs(options.seed))
        return pictures.create_state(options, model, tx, wrt)

    parameters = pictures.introduce(create().model(), dataset)
    if options.dry_run:
        print("the network with its LSTM frozen takes as many steps again; trained jointly:")
        cli.dry_run(options, create, **work)
        return
    folder = cli.folder_of(options, NETWORKS)

    def learn(name: str, wrt: Any = None) -> Any:
        kept = cli.keeping(options, folder, name, log=name == "joint", best="test_accuracy", free=pictures.FREE)
        state, history = train.fit(create(wrt), **work, **kept)
        return *pictures.judge(state, work), history

    print("LSTM and dense layers, trained jointly:")
    joint, predicted, accuracy, history = learn("joint")
    print("dense layers alone, the LSTM frozen at its random start:")
    *_, frozen_accuracy, frozen_history = learn("frozen", NOT_LSTM)
    if not train.devices.distributed.is_first():
        return
    plots.compare({"joint": history, "frozen LSTM": frozen_history}, folder / "curves.png")
    pictures.leave(folder, joint, work["preprocess"], dataset, predicted)
    seconds, frozen_seconds = (sum(record["seconds"] for record in each) for each in (history, frozen_history))
    result = {"test_accuracy": accuracy, "test_accuracy_frozen": frozen_accuracy}
    result |= {"seconds": seconds, "seconds_frozen": frozen_seconds, "parameters": parameters}
    folder.write_json("result.json", result)
    print(
        f"test accuracy {accuracy:.2%} trained jointly ({seconds:.0f} s), {frozen_accuracy:.2%} with the "
        f"LSTM frozen ({frozen_seconds:.0f} s); pictures and metrics are in {folder.path}"
    )


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
