"""Forecasts of time series with their intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jaxnn.plots.figure import INK, TEST, Path, new_grid, plain, save

FUTURE = "#7b2cbf"


class Forecasted(NamedTuple):
    """A series, and forecasts of it.

    Attributes:
        title: The title of its plot.
        times: The time of each step, `(steps,)`, including the steps that forecasts reach beyond the values.
        values: The measured values, `(time,)`.
        made: Forecasts by the step of their first value, each `(3, horizon)`: lower end, middle and upper end. One that
            starts at the end of the values is a forecast of the future.
    """

    title: str
    times: npt.ArrayLike
    values: npt.ArrayLike
    made: dict[int, npt.ArrayLike]


def forecasts(series: Sequence[Forecasted], path: Path, *, name: str = "forecast", interval: str = "90%") -> None:
    """Draws series with forecasts and their intervals.

    Args:
        series: The series, one plot each.
        path: The PNG to write.
        name: The name of the forecasts in the legend.
        interval: The name of their intervals.

    Raises:
        ValueError: If there is no series, or a forecast has no value before it or no time.
        ImportError: If matplotlib is absent.

    Example:
        >>> import numpy as np
        >>> from jaxnn import plots
        >>> values, steps = np.sin(np.arange(30.0)), np.arange(30, 34)
        >>> future = np.sin(steps) + np.array([[-0.1], [0.0], [0.1]])
        >>> plots.forecasts([plots.Forecasted("a sine", np.arange(34), values, {30: future})], "forecasts.png")
    """
    if not series:
        raise ValueError("series: expected at least one, got none")
    figure, grid = new_grid(len(series), min(2, len(series)), 5.2, 1.75, above=0.6)
    legend: dict[str, Any] = {}
    for axes, each in zip(grid, series, strict=True):
        _draw(axes, each, name, interval)
        lines, names = axes.get_legend_handles_labels()
        legend = dict(zip(names, lines, strict=True)) | legend  # each once
    order = sorted(legend, key=lambda label: (label != "measured", label.endswith("future")))
    handles = [legend[label] for label in order]
    figure.legend(handles, order, loc="outside upper center", ncols=len(order), frameon=False)
    save(figure, path)


def _draw(axes: Any, series: Forecasted, name: str, interval: str) -> None:
    times, values = np.asarray(series.times), np.asarray(series.values)
    axes.plot(times[: len(values)], values, color=INK, linewidth=1.3, label="measured")
    for first, made in series.made.items():
        low, middle, high = np.asarray(made)
        steps = np.arange(first - 1, first + len(middle))
        if first < 1 or first > len(values) or steps[-1] >= len(times):
            raise ValueError(
                f"made: expected forecasts that begin at step 1 to {len(values)} and end before step {len(times)}, the "
                f"number of times, got one of {len(middle)} steps from {first}"
            )
        last, future = values[first - 1], first == len(values)
        colour = FUTURE if future else TEST
        label = f"{name} and its {interval} interval, {'the future' if future else 'made at the dot'}"
        years = times[steps]
        axes.fill_between(years, np.r_[last, low], np.r_[last, high], color=colour, alpha=0.22, linewidth=0)
        axes.plot(years, np.r_[last, middle], color=colour, linewidth=1.6, label=label)
        axes.plot(years[0], last, "o", color=colour, markersize=3)
    axes.set_title(series.title, fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=7)
    plain(axes)
