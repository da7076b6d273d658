"""Rolling origins: a series is cut several times; models estimated at a cut forecast from the origins after it.

The origins after the first cut serve calibration only. Estimates at a later cut use the values before it, and the
errors up to then of forecasts from earlier cuts. A forecast from origin `t` knows the values up to and including `t`
and covers the steps `t + 1` to `t + horizon`. The simple forecasts, which a network has to beat, are arrays
`(time, horizon)` over all origins: NaN where the origin is too early.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from jaxnn.data.series import Floats, Series

TINY = 1e-9
"""Smallest divisor, for series that are forecast without error."""
ORDERS = (1, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48)
"""Orders that an autoregression chooses from."""


def targets(values: Floats, horizon: int) -> Floats:
    """The targets of a forecast from each origin, `(time, horizon)`: NaN after the end of the series."""
    return sliding_window_view(np.r_[values[1:], np.full(horizon, np.nan)], horizon)


def lags(values: Floats, length: int) -> Floats:
    """The `length` values up to each origin, its own last, `(time, length)`: NaN before the first one."""
    return sliding_window_view(np.r_[np.full(length - 1, np.nan), values], length)


def season(values: Floats, period: float, cut: int, horizon: int) -> Floats:
    """The mean of each phase of the season in the detrended values before the cut, for all steps and `horizon` more.

    The trend is a moving average over one period, as in the classical decomposition.
    """
    if period < 2:
        return np.zeros(len(values) + horizon)
    phase = (np.arange(len(values) + horizon) % period * (int(period) / period)).astype(int)
    width = round(period)
    weights = np.ones(width) if width % 2 else np.r_[0.5, np.ones(width - 1), 0.5]
    half = len(weights) // 2
    trend = np.convolve(values[:cut], weights / weights.sum(), mode="valid")
    detrended, inner = values[half : cut - half] - trend, phase[half : cut - half]
    means = np.array([detrended[inner == p].mean() for p in range(phase.max() + 1)])
    return (means - means.mean())[phase]


def seasonal_naive(values: Floats, period: float, horizon: int) -> Floats:
    """The last known value of the same phase of the season."""
    width = round(period)
    return lags(values, width)[:, np.arange(horizon) % width]


def autoregression(values: Floats, cut: int, horizon: int, order: int, differenced: bool = False) -> Floats:
    """Each step ahead as an affine function of the last `order` values, or changes, fitted by least squares."""
    past, origin = lags(values, order + differenced), differenced * values[:, None]
    past = past[:, :-1] - past[:, -1:] if differenced else past
    known, future = np.c_[np.ones(len(past)), past], targets(values, horizon) - origin
    before = np.arange(order - (not differenced), cut - horizon)  # the origins whose targets lie before the cut
    coefficients, *_ = np.linalg.lstsq(known[before], future[before], rcond=None)
    return np.asarray(known @ coefficients + origin, np.float64)


def linear(values: Floats, cut: int, horizon: int, most: int) -> tuple[Floats, bool]:
    """Autoregression of the order, up to `most`, that best forecasts the held-out last quarter before the cut.

    Returns the forecasts, and whether they are of changes.
    """
    before = cut - max(cut // 4, horizon)
    origins = np.arange(before - 1, cut - horizon)
    known = max(1, min(most, (before - horizon) // 3))  # at least two examples per coefficient

    def error(choice: tuple[int, bool]) -> float:
        made = autoregression(values, before, horizon, *choice)[origins]
        return float(np.abs(made - targets(values, horizon)[origins]).mean())

    choices = [(order, differenced) for differenced in (False, True) for order in ORDERS if order <= known]
    order, differenced = min(choices, key=error)
    return autoregression(values, cut, horizon, order, differenced), differenced


def exponential_smoothing(values: Floats, cut: int, horizon: int) -> Floats:
    """Exponential smoothing with a damped trend, ETS(A, A_d, N), as statsmodels estimates it by maximum likelihood."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    kind = {"error": "add", "trend": "add", "damped_trend": True}
    fitted = ETSModel(values[:cut], **kind).fit(disp=False)
    filtered = ETSModel(values, **kind).smooth(fitted.params)  # the state at each origin, of the values up to it
    damping = filtered.damping_trend ** (1 + np.arange(horizon))
    return np.asarray(filtered.level)[:, None] + np.asarray(filtered.slope)[:, None] * np.cumsum(damping)


class Cut(NamedTuple):
    """A cut before the step `at`, and the origins of the forecasts that are estimated from the values before it."""

    at: int
    origins: npt.NDArray[np.int_]


def cuts(length: int, horizon: int, judged: int) -> list[Cut]:
    """Returns a cut for calibration, `judged` ones whose targets all lie in the series, and one at its end."""
    block = max(length // 20, 4)
    first = length - horizon + 1 - judged * block
    starts = [first - block - horizon, *range(first, first + judged * block, block)]
    stops = [*(start - 1 for start in starts[1:]), length - horizon]
    blocks = [*zip(starts, stops, strict=True), (length, length)]
    return [Cut(start, np.arange(start - 1, stop)) for start, stop in blocks]


class Task(NamedTuple):
    """A series at a cut, with everything that is estimated from the values before it.

    Attributes:
        series: What is forecast.
        cut: Where it is cut.
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
        """The true values, `(origins, horizon)`, on the series' scale: NaN after its end."""
        return targets(self.series.transformed(), self.made["linear"].shape[1])[self.cut.origins]


def least_length(window: int, horizon: int, judged: int, period: float) -> int:
    """The length of the shortest series with two seasons and enough examples before the first cut."""
    length, before = 1, max(3 * horizon + window // 2, int(np.ceil(2 * period)) + horizon)
    while cuts(length, horizon, judged)[0].at < before:
        length += 1
    return length


def task(series: Series, cut: Cut, *, horizon: int, window: int, quantiles: Sequence[float]) -> Task:
    """Estimates everything but the network at a cut."""
    values = series.transformed()
    seasonal = season(values, series.period, cut.at, horizon)
    ahead, anomalies = targets(seasonal, horizon)[: len(values)], values - seasonal[: len(values)]
    autoregressive, differenced = linear(anomalies, cut.at, horizon, most=window)
    middle = {
        "naive": np.repeat(values[:, None], horizon, axis=1),
        "seasonal-naive": seasonal_naive(values, series.period, horizon),
        "smoothing": exponential_smoothing(anomalies, cut.at, horizon) + ahead,
        "linear": autoregressive + ahead,  # last, since networks start from it
    }
    first = max(int(np.isfinite(middle["linear"]).all(axis=1).argmax()), window // 2 - 1)
    known = np.arange(first, cut.at - horizon)  # targets too lie before the cut
    truth, made = targets(values, horizon), {}
    for name, each in middle.items():
        errors = (truth - each)[known]
        low, high = np.nanquantile(errors, [quantiles[0], quantiles[-1]], axis=0)
        made[name] = each[cut.origins, :, None] + np.stack([low, np.zeros(horizon), high], axis=-1)
    errors = (truth - middle["linear"])[known]
    spread = np.maximum(errors.std(axis=0), TINY)
    past = _past(anomalies, series.period, cut.at, window, levels=not differenced)
    return Task(series, cut, made, spread, past[cut.origins], past[known], errors / spread)


def _past(anomalies: Floats, period: float, cut: int, window: int, levels: bool) -> Floats:
    """The network's view at each origin, `(time, window, 4)`: changes, levels, sine and cosine of the season.

    Changes are the anomalies less that of the origin. Levels are 0 where the linear forecast is one of changes too: a
    series that grows has never been at its levels before. Before the start of the series everything is 0.
    """
    past = lags(anomalies, window)
    changes = past - past[:, -1:]
    unit, known = np.sqrt(np.nanmean(np.square(changes[:cut]))), anomalies[:cut]
    level = (past - known.mean()) / max(known.std(), TINY) if levels else np.zeros_like(past)
    angle = 2 * np.pi * (np.arange(len(anomalies)) % period) / period
    waves = (np.broadcast_to((period >= 2) * wave(angle)[:, None], past.shape) for wave in (np.sin, np.cos))
    return np.nan_to_num(np.stack([changes / max(unit, TINY), level.clip(-3, 3), *waves], axis=-1))


def calibrated(tasks: Sequence[Task], level: float) -> list[Task]:
    """Calibrates the intervals of all tasks of a series but the first, on the tasks before each.

    Conformalised quantile regression: the distances of values from their intervals, negative inside and in units of
    `spread`, have a quantile at `level`, which is added at both ends. Only values before the cut of a task count.

    References:
        Romano, Patterson and Candès, Conformalized Quantile Regression, NeurIPS 2019.
    """
    result: list[Task] = []
    for k, task in enumerate(tasks[1:], start=1):
        made: dict[str, Floats] = {}
        for name, each in task.made.items():
            outside = np.sort(np.concatenate([_outside(before, name, task.cut.at) for before in tasks[:k]]))
            margin = outside[min(int(np.ceil((len(outside) + 1) * level)), len(outside)) - 1] * task.spread
            low, middle, high = np.moveaxis(each, -1, 0)
            ends = np.minimum(low - margin, middle), middle, np.maximum(high + margin, middle)
            made[name] = np.stack(ends, axis=-1)
        result.append(task._replace(made=made))
    return result


def _outside(task: Task, name: str, end: int) -> Floats:
    """How far the values before `end` lay outside a task's intervals, in units of `spread`."""
    low, _, high = np.moveaxis(task.made[name], -1, 0)
    far = np.maximum(low - task.truth, task.truth - high) / task.spread
    steps = task.cut.origins[:, None] + 1 + np.arange(far.shape[1])
    return np.asarray(far[steps < end])
