"""Rolling origins: a series is cut several times, and what is known at a cut forecasts the block of origins after it.

The first block is for calibration alone. Whatever is estimated for a later block is estimated from values before its
cut, and from how forecasts made at earlier cuts came out until then.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.data import simple_forecasts as simple
from jaxnn.data.series import Floats, Series

SIMPLE = ("naive", "seasonal-naive", "smoothing", "linear")
"""The simple forecasts; the network starts from the last."""


TINY = 1e-9
"""Divides instead of a spread that is 0, of a series that is forecast without error."""


class Cut(NamedTuple):
    """A cut, and the origins that are forecast from with what is known at it.

    Attributes:
        at: The first step that is not known.
        stop: The first origin that belongs to the next cut; the origins start at the last known step.
    """

    at: int
    stop: int

    @property
    def origins(self) -> simple.Ints:
        """The origins."""
        return np.arange(self.at - 1, self.stop)


def cuts(length: int, horizon: int, judged: int) -> list[Cut]:
    """One cut for calibration, `judged` ones, all of whose targets lie in the series, and one at its end."""
    block = max(length // 20, 4)
    first = length - horizon + 1 - judged * block
    starts = [first - block - horizon, *range(first, first + judged * block, block)]
    stops = [*(start - 1 for start in starts[1:]), length - horizon]
    return [*map(Cut, starts, stops), Cut(length, length)]


class Task(NamedTuple):
    """A series at a cut, all of it estimated from values before the cut.

    Attributes:
        series: The series.
        cut: The cut.
        made: Forecasts by name, `(origins, horizon, 3)`, on the series' scale: lower end, middle and upper end.
        spread: `(horizon,)`: the standard deviation of the linear forecast's errors.
        past: What the network sees at each origin, `(origins, window, 4)`.
        known_past: The same of the examples that it learns from, `(examples, window, 4)`.
        known_errors: The linear forecast's errors of the examples, in units of `spread`, `(examples, horizon)`.
    """

    series: Series
    cut: Cut
    made: dict[str, Floats]
    spread: Floats
    past: Floats
    known_past: Floats
    known_errors: Floats

    @property
    def truth(self) -> Floats:
        """The values that came, `(origins, horizon)`, on the series' scale: NaN after its end."""
        return simple.targets(self.series.transformed(), self.made["linear"].shape[1])[self.cut.origins]


def least_length(window: int, horizon: int, judged: int, period: float) -> int:
    """The length of the shortest series with enough before the first cut: two seasons, and examples to learn from."""
    length, before = 1, max(3 * horizon + window // 2, int(np.ceil(2 * period)) + horizon)
    while cuts(length, horizon, judged)[0].at < before:
        length += 1
    return length


def task(series: Series, cut: Cut, *, horizon: int, window: int, quantiles: Sequence[float]) -> Task:
    """Estimates everything but the network at a cut."""
    values = series.transformed()
    season = simple.season(values, series.period, cut.at, horizon)
    ahead, anomalies = simple.targets(season, horizon)[: len(values)], values - season[: len(values)]
    linear = simple.Linear.select(anomalies, cut.at, horizon, most=window)
    middle = {
        "naive": simple.naive(values, horizon),
        "seasonal-naive": simple.seasonal_naive(values, series.period, horizon),
        "smoothing": simple.exponential_smoothing(anomalies, cut.at, horizon) + ahead,
        "linear": linear.forecast(anomalies) + ahead,
    }
    first = max(int(np.isfinite(middle["linear"]).all(axis=1).argmax()), window // 2 - 1)
    known = np.arange(first, cut.at - horizon)  # targets too lie before the cut
    truth, made = simple.targets(values, horizon), {}
    for name, each in middle.items():
        errors = (truth - each)[known]
        low, high = np.nanquantile(errors, [quantiles[0], quantiles[-1]], axis=0)
        made[name] = each[cut.origins, :, None] + np.stack([low, np.zeros(horizon), high], axis=-1)
    errors = (truth - middle["linear"])[known]
    spread = np.maximum(errors.std(axis=0), TINY)
    past = _past(anomalies, series.period, cut.at, window, levels=not linear.differenced)
    return Task(series, cut, made, spread, past[cut.origins], past[known], errors / spread)


def _past(anomalies: Floats, period: float, cut: int, window: int, levels: bool) -> Floats:
    """The network's view at each origin, `(time, window, 4)`: changes, levels, sine and cosine of the season.

    Changes are the anomalies less that of the origin. Levels are 0 where the linear forecast is one of changes too: a
    series that grows has never been at its levels before. Before the start of the series everything is 0.
    """
    past = simple.lags(anomalies, window)
    changes = past - past[:, -1:]
    unit, known = np.sqrt(np.nanmean(np.square(changes[:cut]))), anomalies[:cut]
    level = (past - known.mean()) / max(known.std(), TINY) if levels else np.zeros_like(past)
    angle = 2 * np.pi * (np.arange(len(anomalies)) % period) / period
    season = np.stack([np.sin(angle), np.cos(angle)] if period >= 2 else [0 * angle] * 2, axis=-1)
    season = np.broadcast_to(season[:, None], (*past.shape, 2))
    return np.nan_to_num(
        np.concatenate([(changes / max(unit, TINY))[..., None], level.clip(-3, 3)[..., None], season], axis=-1)
    )


def calibrated(tasks: Sequence[Task], level: float) -> list[Task]:
    """All tasks of a series but the first, with intervals as wide as earlier ones had to be.

    Conformalised quantile regression: of how far values lay outside their intervals (inside: less than 0), in units of
    `spread`, the quantile `level` is added at both ends. Only values before the cut of a task count for it.

    References:
        Romano, Patterson and Candès, Conformalized Quantile Regression, NeurIPS 2019.
    """
    result: list[Task] = []
    for k, task in enumerate(tasks[1:], start=1):
        made: dict[str, Floats] = {}
        for name, each in task.made.items():
            outside = np.sort(np.concatenate([_outside(before, name, task.cut.at) for before in tasks[:k]]))
            rank = min(int(np.ceil((len(outside) + 1) * level)), len(outside))
            margin = outside[rank - 1] * task.spread
            low, middle, high = np.moveaxis(each, -1, 0)
            made[name] = np.stack(
                [np.minimum(low - margin, middle), middle, np.maximum(high + margin, middle)], axis=-1
            )
        result.append(task._replace(made=made))
    return result


def _outside(task: Task, name: str, end: int) -> Floats:
    """How far the values before `end` lay outside a task's intervals, in units of `spread`."""
    low, _, high = np.moveaxis(task.made[name], -1, 0)
    far = np.maximum(low - task.truth, task.truth - high) / task.spread
    steps = task.cut.origins[:, None] + 1 + np.arange(far.shape[1])
    return np.asarray(far[steps < end])
