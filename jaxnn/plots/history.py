"""Loss and accuracy of runs over their epochs."""

import math
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
        for part, named, colour in (("train", "training", TRAIN), ("test", "test", TEST)):
            _line(axes, named, history, f"{part}_{name}", colour, marker="o", markersize=3.5)
        axes.set_ylabel(words(name))
        over_epochs(axes)
        if axes.lines:
            axes.legend(edgecolor="none")
    save(figure, path)


def compare(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, metric: str | Sequence[str] = "test_accuracy"
) -> None:
    """Draws metrics of several runs over their epochs, one colour per run.

    Args:
        histories: Records of `fit` by the name of the run.
        path: The PNG to write.
        metric: Name of a number in the records, or several: each has a plot, which training (dashed) and test share.
            Accuracies are shown in percent; numbers that are missing or None are left out.

    Raises:
        ValueError: If there is no history, no metric, or a history without one of them.
        ImportError: If matplotlib is absent.

    Example:
        >>> from jaxnn import plots
        >>> tanh, relu = [{"epoch": 1, "test_accuracy": 0.8}], [{"epoch": 1, "test_accuracy": 0.9}]
        >>> plots.compare({"tanh": tanh, "ReLU": relu}, "compare.png")
    """
    if not histories:
        raise ValueError("histories: expected at least one, got none")
    metrics = [metric] if isinstance(metric, str) else list(metric)
    if not metrics:
        raise ValueError("metric: expected at least one name, got none")
    panels: dict[str, list[str]] = {}
    for one in metrics:
        panels.setdefault(one.removeprefix("train_").removeprefix("test_"), []).append(one)
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(6.0 * columns, 4.0 * rows)
    for number, (shared, names) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, number)
        for colour, (run, history) in enumerate(histories.items()):
            for name in names:
                if not any(name in record for record in history):
                    raise ValueError(f"histories: expected records of {name!r}, got none in {run!r}")
                which = "" if len(names) == 1 else ", training" if name.startswith("train_") else ", test"
                marker = "o" if sum(record.get(name) is not None for record in history) < 50 else ""
                style = {"linestyle": "--" if which == ", training" else "-", "marker": marker, "markersize": 3}
                _line(axes, f"{run}{which}", history, name, f"C{colour % 10}", **style)
        axes.set_ylabel(words(names[0] if len(names) == 1 else shared))
        over_epochs(axes)
        if axes.lines:
            axes.legend(edgecolor="none", fontsize="small" if len(axes.lines) > 4 else None)
    save(figure, path)


def _line(axes: Any, label: str, history: Any, metric: str, colour: str, **style: Any) -> None:
    """Draws the values that one run has of a metric, and names the last."""
    points = [(record["epoch"], record[metric]) for record in history if record.get(metric) is not None]
    if not points:
        return
    epochs, values = np.array(points, float).T
    percent = metric.endswith("accuracy")
    last = f"{100 * values[-1]:.2f} %" if percent else f"{values[-1]:.4g}"
    values = values * 100 if percent else values
    axes.plot(epochs, values, color=colour, linewidth=1.6, **style, label=f"{label}, last {last}")
