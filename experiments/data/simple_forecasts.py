"""Simple forecasts, which a network has to beat, and the season that is taken off before most of them.

A forecast from the origin `t` knows the values up to and including `t` and is of the steps `t + 1` to `t + horizon`.
Everything is estimated from values before `cut` alone. Forecasts are made from every origin, `(time, horizon)`:
NaN from those that are too early.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxnn.data.series import Floats

Ints = npt.NDArray[np.int_]


ORDERS = (1, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48)
"""Numbers of past values that a linear forecast chooses from."""


def targets(values: Floats, horizon: int) -> Floats:
    """The targets of a forecast from each origin, `(time, horizon)`: NaN after the end of the series."""
    padded = np.concatenate([values, np.full(horizon, np.nan)])
    return padded[np.arange(len(values))[:, None] + 1 + np.arange(horizon)]


def lags(values: npt.NDArray, length: int) -> npt.NDArray:
    """The `length` values up to each origin, its own last, `(time, length, ...)`: NaN before the first one."""
    padded = np.concatenate([np.full((length - 1, *values.shape[1:]), np.nan, values.dtype), values])
    return padded[np.arange(len(values))[:, None] + np.arange(length)]


def season(values: Floats, period: float, cut: int, horizon: int) -> Floats:
    """The mean of each phase of the season, less the trend, before the cut; for all steps and `horizon` more.

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


def naive(values: Floats, horizon: int) -> Floats:
    """The last value."""
    return np.repeat(values[:, None], horizon, axis=1)


def seasonal_naive(values: Floats, period: float, horizon: int) -> Floats:
    """The last known value of the same phase of the season."""
    width = round(period)
    return lags(values, width)[:, np.arange(horizon) % width]


class Linear(NamedTuple):
    """Autoregression: each step ahead is a constant plus fixed multiples of the last values.

    Attributes:
        coefficients: `(1 + order, horizon)`, constants first, then from the earliest value to the latest.
        differenced: Whether the values are taken less that of the origin.
    """

    coefficients: Floats
    differenced: bool

    @property
    def order(self) -> int:
        """How many past values count."""
        return len(self.coefficients) - 1

    @classmethod
    def fit(cls, values: Floats, cut: int, horizon: int, order: int, differenced: bool = False) -> "Linear":
        """Least squares for each step ahead, over all origins whose targets lie before the cut."""
        origins = np.arange(order - (not differenced), cut - horizon)
        future = targets(values, horizon)[origins]
        if differenced:
            future = future - values[origins, None]
        known = _known(values, order, differenced)[origins]
        return cls(np.asarray(np.linalg.lstsq(known, future, rcond=None)[0], np.float64), differenced)

    @classmethod
    def select(cls, values: Floats, cut: int, horizon: int, most: int) -> "Linear":
        """As `fit`, with the order, up to `most`, that forecasts the last quarter before the cut best without it."""
        before = cut - max(cut // 4, horizon)
        origins = np.arange(before - 1, cut - horizon)
        future = targets(values, horizon)[origins]
        known = max(1, min(most, (before - horizon) // 3))  # at least two examples for each coefficient

        def error(choice: tuple[int, bool]) -> float:
            made = cls.fit(values, before, horizon, *choice).forecast(values)[origins]
            return float(np.abs(made - future).mean())

        choices = [(order, differenced) for differenced in (False, True) for order in ORDERS if order <= known]
        return cls.fit(values, cut, horizon, *min(choices, key=error))

    def forecast(self, values: Floats) -> Floats:
        """Forecasts from every origin."""
        made = _known(values, self.order, self.differenced) @ self.coefficients
        return made + values[:, None] if self.differenced else made


def _known(values: Floats, order: int, differenced: bool) -> Floats:
    """A constant and the last values, `(time, 1 + order)`."""
    past = lags(values, order + differenced)
    past = past[:, :-1] - past[:, -1:] if differenced else past
    return np.concatenate([np.ones((len(past), 1)), past], axis=1)


def exponential_smoothing(values: Floats, cut: int, horizon: int) -> Floats:
    """Exponential smoothing with a damped trend, ETS(A, A_d, N), as statsmodels estimates it by maximum likelihood."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    kind = {"error": "add", "trend": "add", "damped_trend": True}
    fitted = ETSModel(values[:cut], **kind).fit(disp=False)
    filtered = ETSModel(values, **kind).smooth(fitted.params)  # the state at each origin, of the values up to it
    damping = filtered.damping_trend ** (1 + np.arange(horizon))
    return np.asarray(filtered.level)[:, None] + np.asarray(filtered.slope)[:, None] * np.cumsum(damping)
