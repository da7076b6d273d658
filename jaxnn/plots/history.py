"""Loss and accuracy of runs over their epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnn.plots.figure import TEST, TRAIN, Path, new_figure, over_epochs, save, words


def curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws loss and, if recorded, accuracy over the epochs, training and test.

    Args:
        history: Records of `fit`, or of `RunFolder.metrics()`.
        path: The PNG to write.

    Raises:
        ValueError: If the history is empty.
        ImportError: If matplotlib is absent.

    Example:
        >>> import os
        >>> from jaxnn import plots
        >>> plots.curves([{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0}], "curves.png")
        >>> os.path.exists("curves.png")
        True
    """
    if not history:
        raise ValueError("history: expected at least one record, got none")
    names = [name for name in ("loss", "accuracy") if any(f"train_{name}" in record for record in history)]
    figure = new_figure(5.2 * len(names), 3.8)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        scale = 100 if name == "accuracy" else 1
        for part, named, colour in (("train", "training", TRAIN), ("test", "test", TEST)):
            points = [(r["epoch"], r[f"{part}_{name}"]) for r in history if r.get(f"{part}_{name}") is not None]
            if points:
                epochs, values = np.array(points, float).T
                last = f"{values[-1] * scale:.2f} %" if name == "accuracy" else f"{values[-1]:.4g}"
                axes.plot(
                    epochs,
                    values * scale,
                    "o-",
                    color=colour,
                    markersize=3.5,
                    linewidth=1.6,
                    label=f"{named}, last {last}",
                )
        axes.set_ylabel(words(name))
        over_epochs(axes)
        if axes.lines:
            axes.legend(frameon=False)
    save(figure, path)


def compare(histories: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, metric: str = "test_accuracy") -> None:
    """Draws one metric of several runs over their epochs.

    Args:
        histories: Records of `fit` by the name of the run.
        path: The PNG to write.
        metric: Name of a number in the records; accuracies are shown in percent.

    Raises:
        ValueError: If there is no history, or one without the metric.
        ImportError: If matplotlib is absent.

    Example:
        >>> from jaxnn import plots
        >>> tanh, relu = [{"epoch": 1, "test_accuracy": 0.8}], [{"epoch": 1, "test_accuracy": 0.9}]
        >>> plots.compare({"tanh": tanh, "ReLU": relu}, "compare.png")
    """
    if not histories:
        raise ValueError("histories: expected at least one, got none")
    percent = metric.endswith("accuracy")
    figure = new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    for name, history in histories.items():
        points = [(record["epoch"], record[metric]) for record in history if record.get(metric) is not None]
        if not points:
            raise ValueError(f"histories: expected records of {metric!r}, got none in {name!r}")
        epochs, values = np.array(points, float).T
        last = f"{100 * values[-1]:.2f} %" if percent else f"{values[-1]:.4g}"
        scale = 100 if percent else 1
        axes.plot(epochs, scale * values, "o-", markersize=3, linewidth=1.6, label=f"{name}, last {last}")
    axes.set_ylabel(words(metric))
    over_epochs(axes)
    axes.legend(frameon=False)
    save(figure, path)
