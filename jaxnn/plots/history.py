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
            axes.legend(edgecolor="none")
    save(figure, path)


def compare(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, metric: str | Sequence[str] = "test_accuracy"
) -> None:
    """Draws metrics of several runs over their epochs, one colour a run.

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
                which = "" if len(names) == 1 else ", training" if name.startswith("train_") else ", test"
                _line(axes, f"{run}{which}", history, name, f"C{colour % 10}", dashed=which == ", training")
        axes.set_ylabel(words(names[0] if len(names) == 1 else shared))
        over_epochs(axes)
        if axes.lines:
            axes.legend(edgecolor="none", fontsize="small" if len(axes.lines) > 4 else None)
    save(figure, path)


def _line(axes: Any, label: str, history: Any, metric: str, colour: str, *, dashed: bool) -> None:
    """Draws one metric of one run, and its last value beside its name."""
    if not any(metric in record for record in history):
        raise ValueError(f"histories: expected records of {metric!r}, got none in {label!r}")
    points = [(record["epoch"], record[metric]) for record in history if record.get(metric) is not None]
    if not points:
        return
    epochs, values = np.array(points, float).T
    percent = metric.endswith("accuracy")
    last = f"{100 * values[-1]:.2f} %" if percent else f"{values[-1]:.4g}"
    style = {"linestyle": "--" if dashed else "-", "marker": "o" if len(points) < 50 else "", "markersize": 3}
    values = values * 100 if percent else values
    axes.plot(epochs, values, color=colour, linewidth=1.6, **style, label=f"{label}, last {last}")
