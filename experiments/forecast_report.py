"""Output of the forecasts: scores as a table, two pictures, and the future of each series as a CSV file."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.rolling import Task
from jaxnn import metrics, plots
from jaxnn.files import replacing
from jaxnn.inspect.summary import aligned
from jaxnn.plots.figure import TEST, TRAIN, new_figure, plain, save

COLOURS = {"naive": "#bbbbbb", "seasonal-naive": "#888888", "smoothing": "#2a9d8f", "linear": TRAIN}

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Results of `score` by series and method; the network is the last method."""


def score(tasks: Sequence[Task], level: float) -> dict[str, dict[str, Any]]:
    """Scores each method's forecasts of a series: means over its cuts except the last, which is its end."""
    series = tasks[0].series
    found: dict[str, list[Any]] = {name: [] for name in tasks[0].made}
    for task in tasks[:-1]:
        past, period, truth = series.values[: task.cut.at], round(series.period), series.restored(task.truth)
        unit = metrics.naive_error(past, period=period)
        for name, made in task.made.items():
            low, middle, high = np.moveaxis(series.restored(made), -1, 0)
            error = metrics.mase(truth, middle, past, period=period, axis=0)
            interval = metrics.interval_score(truth, low, high, level=level).mean() / unit
            found[name].append((error, metrics.coverage(truth, low, high), interval))
    scores = {}
    for name, of_cuts in found.items():
        errors, coverage, interval = (np.mean(part, axis=0) for part in zip(*of_cuts, strict=True))
        scores[name] = {"mase": float(errors.mean()), "mase_by_step": errors.tolist()}
        scores[name] |= {"coverage": float(coverage), "interval_score": float(interval)}
    return scores


def ratios(scores: Scores, what: str) -> np.ndarray:
    """The network's score of each series divided by the linear forecast's: below 1 it is better."""
    return np.array([list(ways.values())[-1][what] / ways["linear"][what] for ways in scores.values()])


def table(scores: Scores, level: float) -> str:
    """Lists per series the error of each method, coverage and interval score; a summary follows."""
    names = list(next(iter(scores.values())))
    network = names[-1]
    pairs = ("linear", network)
    rows = [["", *names, *(f"cover {name}" for name in pairs), *(f"score {name}" for name in pairs)]]
    for series, ways in scores.items():
        errors = [f"{ways[name]['mase']:.3f}" for name in names]
        covered = [f"{ways[name]['coverage']:.0%}" for name in pairs]
        rows.append([series, *errors, *covered, *(f"{ways[name]['interval_score']:.2f}" for name in pairs)])
    parts = []
    for what, name in (("mase", "error"), ("interval_score", "interval score")):
        of_linear = ratios(scores, what)
        better, mean = (of_linear <= 1).sum(), np.exp(np.log(of_linear).mean())
        parts.append(f"{name} at most that of linear on {better} of {len(of_linear)}, {mean:.3f} times it")
    covered = np.mean([ways[network]["coverage"] for ways in scores.values()])
    return (
        f"mean absolute scaled error, then the coverage of {level:.0%} intervals and their score, less is better\n"
        f"{aligned(rows, 'l' + 'r' * (len(rows[0]) - 1))}\n"
        f"{network}: {'; '.join(parts)} (geometric mean); coverage {covered:.0%} on average"
    )


def write_future(tasks: Sequence[Sequence[Task]], path: Path) -> None:
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["series", "unit", "time", "lower", "middle", "upper"])
        for *_, last in tasks:
            series = last.series
            for k, made in enumerate(series.restored(list(last.made.values())[-1])[0], len(series.values)):
                writer.writerow([series.name, series.unit, series.label(k), *(f"{each:.6g}" for each in made)])


def draw_forecasts(tasks: Sequence[Sequence[Task]], level: float, path: Path) -> None:
    """Draws the end of each series, with the network's forecasts and intervals from the cuts and into the future."""
    drawn, name = [], list(tasks[0][0].made)[-1]
    for group in tasks:
        series, horizon = group[0].series, len(group[0].spread)
        start = max(0, group[0].cut.at - 3 * horizon, len(series.values) - 12 * horizon)
        made: dict[int, Any] = {}
        for task in group:  # those that do not overlap
            at = task.cut.at - start
            if at >= max([1, *(before + horizon for before in made)]):
                made[at] = np.moveaxis(series.restored(task.made[name])[0], -1, 0)
        title = ", ".join(dict.fromkeys(filter(None, (series.name, series.unit))))
        years = series.years(np.arange(start, len(series.values) + horizon))
        drawn.append(plots.Forecasted(title, years, series.values[start:], made))
    plots.forecasts(drawn, path, name=name, interval=f"{level:.0%}")


def draw_errors(scores: Scores, path: Path) -> None:
    """Draws the error of each method by step ahead, and the network relative to the linear forecast by series."""
    figure = new_figure(10.0, 4.2)
    left, right = figure.subplots(1, 2)
    *_, network = names = list(next(iter(scores.values())))
    for name in names:
        errors = np.exp(np.mean([np.log(ways[name]["mase_by_step"]) for ways in scores.values()], axis=0))
        style = {"color": COLOURS.get(name, TEST), "linewidth": 3.6 if name == "linear" else 1.4}  # under the network's
        left.plot(1 + np.arange(len(errors)), errors, "o-", markersize=3, label=name, **style)
    left.set(xlabel="steps ahead", ylabel="scaled error, geometric mean over series")
    left.set_ylim(bottom=0)
    left.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    places = np.arange(len(scores))[::-1]
    right.plot(ratios(scores, "mase"), places, "o", color=TEST, label="error", markersize=6)
    right.plot(ratios(scores, "interval_score"), places, "D", color="#7b2cbf", label="interval score", markersize=6)
    right.axvline(1, color=TRAIN, linewidth=1.6)
    right.set_yticks(places, list(scores))
    right.xaxis.get_major_locator().set_params(nbins=6)
    right.set_xlabel(f"{network} divided by linear: left of the line it is better")
    for axes in (left, right):
        axes.legend(edgecolor="none")
        plain(axes)
    save(figure, path)
