"""LeNet learns to read digits: two conv layers of 32 and 64 filters, pooling, dense 512 and 10, L2 regularisation.

    python -m experiments.lenet5
    python -m experiments.lenet5 --model lenet5-1998 --data mnist
    python -m experiments.lenet5 --data cifar10 --epochs 10 --flip --shift 4

Writes config.json, metrics.jsonl, curves.png, confusion.png, filters.png, predictions.png and model.jaxprogram, which
`python -m experiments.serve` reads, to the run folder.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from experiments import pictures
from jaxnn import cli, models


@dataclasses.dataclass(frozen=True)
class Options(pictures.Training):
    """LeNet's options."""

    model: Literal["lenet", "lenet5-1998"] = "lenet"
    """A LeNet with ReLU and dense layers of 512 and 10, or LeCun's LeNet-5 of 1998."""
    epochs: cli.Count = 40
    batch_size: cli.Count = 32
    learning_rate: cli.Number = 2e-3
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    l2: cli.Number = 1e-4
    normalize: bool = True
    shift: cli.Natural = 1
    run: Path = Path("runs/lenet5")


def main(options: Options) -> None:
    """Trains the chosen LeNet and draws what it learned."""
    network, first = (models.LeNet, "conv1") if options.model == "lenet" else (models.LeNet5, "c1")
    pictures.learn(options, network, first)


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
