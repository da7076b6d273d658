"""What a character language model's training leaves for a person: lines, samples, curves and the model."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import model_file
from experiments.data.text import Vocabulary
from jaxnn import train
from jaxnn.files import replacing
from jaxnn.models import LanguageModel
from jaxnn.plots.figure import TEST, TRAIN, new_figure, save
from jaxnn.train.run.progress import clock

Record = dict[str, Any]
"""Of a segment of steps; those at which the held-out text was looked at have `held_out_bits` and `sample` too."""


def line(record: Record) -> str:
    """How far training is and how well it does, where the held-out text was looked at."""
    return (
        f"{record['share']:4.0%}  step {record['step']:,}  {record['epochs']:.1f} passes  "
        f"train {record['train_bits']:.3f}  held out {record['held_out_bits']:.3f} bits per character  "
        f"{clock(record['seconds'])}"
    )


def show(record: Record) -> None:
    """Prints the line and the beginning of the sample."""
    print(
        "\n".join([line(record), *("    " + part for part in record["sample"].strip("\n").splitlines()[:6])]),
        flush=True,
    )


def leave(
    folder: train.RunFolder, model: LanguageModel, vocabulary: Vocabulary, sizes: dict[str, Any], records: list[Record]
) -> None:
    """Writes model.npz, and samples.txt with the samples of all records."""
    model_file.save(folder / "model.npz", model, vocabulary, sizes)
    samples = "".join(f"{line(record)}\n\n{record['sample']}\n\n" for record in records if "sample" in record)
    with replacing(folder / "samples.txt") as beside:
        beside.write_text(samples, encoding="utf-8")


def curves(records: list[Record], path: Path) -> None:
    """Draws bits per character over the passes through the text."""
    figure = new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    for name, colour, label in (("train_bits", TRAIN, "training, with dropout"), ("held_out_bits", TEST, "held out")):
        points = np.array([(r["epochs"], r[name]) for r in records if name in r])
        axes.plot(
            *points.T, ".-" if len(points) < 50 else "-", color=colour, label=f"{label}, last {points[-1, 1]:.3f}"
        )
    axes.set_xlabel("passes through the text")
    axes.set_ylabel("bits per character")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save(figure, path)
