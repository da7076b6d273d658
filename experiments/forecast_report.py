"""Output of the forecasts: a table, two pictures, and the future of each series as a CSV file."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data.rolling import SIMPLE, Task
from jaxnn import metrics, plots
from jaxnn.data.series import Floats
from jaxnn.files import replacing
from jaxnn.inspect.summary import aligned
from jaxnn.plots.figure import TEST, TRAIN, new_figure, plain, save

COLOURS = {"naive": "#bbbbbb", "seasonal-naive": "#888888", "smoothing": "#2a9d8f", "linear": TRAIN}


class Score(NamedTuple):
    """How good forecasts of a series are, the mean over its cuts; errors are in units of `metrics.naive_error`.

    Attributes:
        mase: Mean absolute scaled error by step ahead, `(horizon,)`.
        coverage: Share of values in their intervals.
        interval: Interval score.
    """

    mase: Floats
    coverage: float
    interval: float


class Scores(NamedTuple):
    """The scores of all ways of a series, by name."""

    series: str
    ways: dict[str, Score]

    def ratio(self, what: str) -> float:
        """The network's score less than 1 if it is better than the linear forecast's."""
        return _mean(self.ways[self.network], what) / _mean(self.ways["linear"], what)

    @property
    def network(self) -> str:
        """The network's name."""
        return next(name for name in self.ways if name not in SIMPLE)


def _mean(score: Score, what: str) -> float:
    return float(np.mean(getattr(score, what)))


def score(tasks: Sequence[Task], level: float) -> Scores:
    """Scores the forecasts of a series at all its cuts but the last, which is its end."""
    series = tasks[0].series
    found: dict[str, list[Score]] = {name: [] for name in tasks[0].made}
    for task in tasks[:-1]:
        past, period, truth = series.values[: task.cut.at], round(series.period), series.restored(task.truth)
        unit = metrics.naive_error(past, period=period)
        for name, made in task.made.items():
            low, middle, high = np.moveaxis(series.restored(made), -1, 0)
            error = metrics.mase(truth, middle, past, period=period, axis=0)
            interval = metrics.interval_score(truth, low, high, level=level).mean() / unit
            found[name].append(Score(error, metrics.coverage(truth, low, high), float(interval)))
    means = {name: Score(*(np.mean(part, axis=0) for part in zip(*each, strict=True))) for name, each in found.items()}
    return Scores(series.name, means)


def summary(scores: Sequence[Scores]) -> str:
    """On how many series the network is at least as good as the linear forecast, and by how much."""
    parts = []
    for what, name in (("mase", "error"), ("interval", "interval score")):
        ratios = np.array([each.ratio(what) for each in scores])
        mean = np.exp(np.log(ratios).mean())
        parts.append(f"{name} at most that of linear on {(ratios <= 1).sum()} of {len(ratios)}, {mean:.3f} times it")
    covered = [each.ways[each.network].coverage for each in scores]
    return f"{scores[0].network}: {'; '.join(parts)} (geometric mean); coverage {np.mean(covered):.0%} on average"


def print_table(scores: Sequence[Scores], level: float) -> None:
    """A line a series: the error of each way, then what intervals cover and their score."""
    ways = list(scores[0].ways)
    print(f"mean absolute scaled error, then the coverage of {level:.0%} intervals and their score, less is better")
    pairs = ("linear", scores[0].network)
    rows = [["", *ways, *(f"cover {name}" for name in pairs), *(f"score {name}" for name in pairs)]]
    for each in scores:
        errors = [f"{_mean(each.ways[name], 'mase'):.3f}" for name in ways]
        covered = [f"{each.ways[name].coverage:.0%}" for name in pairs]
        rows.append([each.series, *errors, *covered, *(f"{each.ways[name].interval:.2f}" for name in pairs)])
    print(aligned(rows, "l" + "r" * (len(rows[0]) - 1)))
    print(summary(scores))


def as_dicts(scores: Sequence[Scores]) -> dict[str, Any]:
    """The scores for a JSON file, by series and way."""
    return {
        each.series: {
            name: {
                "mase": _mean(one, "mase"),
                "mase_by_step": one.mase.tolist(),
                "coverage": float(one.coverage),
                "interval_score": float(one.interval),
            }
            for name, one in each.ways.items()
        }
        for each in scores
    }


def write_future(tasks: Sequence[Sequence[Task]], path: Path) -> None:
    """The network's forecasts from the end of each series: a line a step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["series", "unit", "time", "lower", "middle", "upper"])
    for *_, last in tasks:
        series = last.series
        for k, made in enumerate(series.restored(list(last.made.values())[-1])[0]):
            numbers = [f"{each:.6g}" for each in made]
            writer.writerow([series.name, series.unit, series.label(len(series.values) + k), *numbers])
    with replacing(path) as beside:
        Path(beside).write_text(text.getvalue(), encoding="utf-8")


def draw_forecasts(tasks: Sequence[Sequence[Task]], level: float, path: Path) -> None:
    """The end of each series, with the network's forecasts and intervals from the cuts, and from the end its future."""
    name = list(tasks[0][0].made)[-1]
    plots.forecasts([_drawn(group, name) for group in tasks], path, name=name, interval=f"{level:.0%}")


def _drawn(group: Sequence[Task], name: str) -> plots.Forecasted:
    """The last steps of a series with those of its forecasts that do not overlap."""
    series, horizon = group[0].series, len(group[0].spread)
    start = max(0, group[0].cut.at - 3 * horizon, len(series.values) - 12 * horizon)
    made: dict[int, Any] = {}
    for task in group:
        at = task.cut.at - start
        if at >= max([1, *(before + horizon for before in made)]):
            made[at] = np.moveaxis(series.restored(task.made[name])[0], -1, 0)
    title = f"{series.name}, {series.unit}" if series.unit else series.name
    return plots.Forecasted(
        title, series.years(np.arange(start, len(series.values) + horizon)), series.values[start:], made
    )


def draw_errors(scores: Sequence[Scores], path: Path) -> None:
    """The error of each way by step ahead over all series, and the network beside the linear forecast by series."""
    figure = new_figure(10.0, 4.2)
    left, right = figure.subplots(1, 2)
    network = scores[0].network
    for name in scores[0].ways:
        errors = np.exp(np.mean([np.log(each.ways[name].mase) for each in scores], axis=0))
        colour, width = COLOURS.get(name, TEST), 2.0 if name in ("linear", network) else 1.4
        left.plot(1 + np.arange(len(errors)), errors, "o-", markersize=3, color=colour, linewidth=width, label=name)
    left.set_xlabel("steps ahead")
    left.set_ylabel("scaled error, geometric mean over series")
    left.set_ylim(bottom=0)
    left.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    left.legend(frameon=False)
    places = np.arange(len(scores))[::-1]
    for what, label, colour, marker in (("mase", "error", TEST, "o"), ("interval", "interval score", "#7b2cbf", "D")):
        right.plot([each.ratio(what) for each in scores], places, marker, color=colour, label=label, markersize=6)
    right.axvline(1, color=TRAIN, linewidth=1.6)
    right.set_yticks(places, [each.series for each in scores])
    right.set_xlabel(f"{network} divided by linear: left of the line it is better")
    right.legend(frameon=False)
    for axes in (left, right):
        plain(axes)
    save(figure, path)
