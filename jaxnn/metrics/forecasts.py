"""Metrics of time-series forecasts and of their intervals."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.counts import check_count


def naive_error(past: ArrayLike, *, period: int = 1) -> float:
    r"""Computes the mean absolute error of the seasonal-naive forecast inside the past, a unit for errors.

    .. math:: s = \frac{1}{n - m} \sum_{t=m+1}^{n} |y_t - y_{t-m}|

    Args:
        past: The values before the forecast, `(n,)`.
        period: Length :math:`m` of a season, in steps; 1 gives the naive forecast, the last value.

    Returns:
        The error in the series' unit, positive.

    Raises:
        ValueError: If the past is not one axis of finite numbers longer than the period, or does not change.

    Example:
        >>> from jaxnn import metrics
        >>> metrics.naive_error([1.0, 5.0, 2.0, 7.0], period=2)
        1.5
    """
    values, period = np.asarray(past, np.float64), check_count("period", period)
    if values.ndim != 1 or len(values) <= period or not np.isfinite(values).all():
        raise ValueError(
            f"past: expected finite numbers (n,) with n above the period, {period}, got shape {values.shape}; give one "
            "series, with its gaps filled."
        )
    error = float(np.abs(values[period:] - values[:-period]).mean())
    if error == 0:
        raise ValueError(f"past: expected values that differ from those {period} before, got none; use another unit.")
    return error


def mase(truth: ArrayLike, forecast: ArrayLike, past: ArrayLike, *, period: int = 1, axis: int | None = None) -> Any:
    r"""Computes the mean absolute scaled error: 1 is as good as seasonal-naive forecasts were in the past.

    .. math:: \mathrm{MASE} = \frac{1}{s} \, \mathrm{mean} \, |y - \hat{y}|

    where :math:`s` is the `naive_error`. MASE has no unit, so errors of different series can be averaged.

    Args:
        truth: True values, of any shape.
        forecast: Forecast values, of the same shape.
        past: The values before the forecasts, `(n,)`.
        period: As for `naive_error`.
        axis: The axis to average over; all by default. For `(origins, horizon)`, 0 gives the error by step ahead.

    Returns:
        A number, or an array with the remaining axes.

    Raises:
        ValueError: If shapes differ, or as `naive_error`.

    References:
        Hyndman and Koehler, Another look at measures of forecast accuracy, International Journal of Forecasting 22,
        2006.

    Example:
        >>> from jaxnn import metrics
        >>> float(metrics.mase([4.0, 5.0], [4.5, 4.0], past=[1.0, 2.0, 4.0]))
        0.5
    """
    y, z = _alike(truth=truth, forecast=forecast)
    return np.mean(np.abs(y - z), axis=axis) / naive_error(past, period=period)


def coverage(truth: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    """Computes the fraction of values inside their intervals, ends included.

    Args:
        truth: True values, of any shape.
        lower: Lower ends of the intervals, of the same shape.
        upper: Upper ends, of the same shape.

    Returns:
        From 0 to 1; for intervals of level 0.9 it should be 0.9. NaN if a true value is NaN.

    Raises:
        ValueError: If shapes differ, or an interval ends below its start.

    Example:
        >>> from jaxnn import metrics
        >>> metrics.coverage([1.0, 2.0, 3.0, 4.0], [1.0] * 4, [3.0] * 4)
        0.75
    """
    y, low, high = _intervals(truth, lower, upper)
    return float(np.where(np.isnan(y), y, (low <= y) & (y <= high)).mean())


def interval_score(truth: ArrayLike, lower: ArrayLike, upper: ArrayLike, *, level: float) -> np.ndarray:
    r"""Computes the interval score: the width of an interval, and a penalty where the value lies outside.

    With :math:`\alpha = 1 -` `level`,

    .. math:: S = (u - l) + \frac{2}{\alpha} \max(l - y, 0) + \frac{2}{\alpha} \max(y - u, 0)

    Lower is better. The expected score is smallest for the true quantiles :math:`\alpha / 2` and
    :math:`1 - \alpha / 2`, so it rewards neither too wide nor too narrow intervals, unlike coverage or width alone.

    Args:
        truth: True values, of any shape.
        lower: Lower ends of the intervals, of the same shape.
        upper: Upper ends, of the same shape.
        level: The fraction of values that the intervals should cover, between 0 and 1.

    Returns:
        Scores of the same shape, in the unit of the values.

    Raises:
        ValueError: If shapes differ, an interval ends below its start, or the level is out of range.

    References:
        Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, Journal of the American
        Statistical Association 102, 2007, equation 43.

    Example:
        >>> from jaxnn import metrics
        >>> metrics.interval_score([1.0, 4.0], [0.0, 0.0], [3.0, 3.0], level=0.5).tolist()
        [3.0, 7.0]
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}; 0.9 covers nine values of ten.")
    y, low, high = _intervals(truth, lower, upper)
    outside = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    return (high - low) + 2 / (1 - level) * outside


def _intervals(truth: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> list[np.ndarray]:
    y, low, high = _alike(truth=truth, lower=lower, upper=upper)
    if not (low <= high).all():
        first = np.unravel_index((~(low <= high)).argmax(), low.shape)
        raise ValueError(
            f"lower: expected at most upper, got {low[first]} and {high[first]} at position "
            f"{', '.join(map(str, first))}; sort the quantiles."
        )
    return [y, low, high]


def _alike(**arrays: ArrayLike) -> list[np.ndarray]:
    """The arrays in float64; raises where their shapes differ."""
    (first, y), *rest = ((name, np.asarray(array, np.float64)) for name, array in arrays.items())
    for name, array in rest:
        if array.shape != y.shape:
            raise ValueError(f"{name}: expected the shape of {first}, {y.shape}, got {array.shape}")
    return [y, *(array for _, array in rest)]
