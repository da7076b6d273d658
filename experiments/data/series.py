"""A monthly time series, cut into past and future, and the simple forecasts that a network has to beat.

Months are counted from 0, a January. A forecast from the origin `t` knows the months up to and including `t` and is of
the months `t + 1` to `t + horizon`. What is estimated is estimated from months before `cut`, and from nothing else.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxnn import extras

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int_]
MONTHS = 12


class Series(NamedTuple):
    """A monthly series.

    Attributes:
        name: what it is of.
        unit: of its values.
        first_year: of month 0, a January.
        values: `(months,)`.
    """

    name: str
    unit: str
    first_year: int
    values: Floats


def load_elnino() -> Series:
    """The sea surface temperature off Peru, monthly means 1950 to 2010, as statsmodels ships them."""
    try:
        from statsmodels.datasets import elnino
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the series comes inside statsmodels, which is not installed; "
            f"install it with: {extras.install('experiments')}"
        ) from error
    table = elnino.load_pandas().data.to_numpy(float)  # a row a year: the year, then its twelve months
    values = table[:, 1:].ravel()
    if not np.isfinite(values).all() or not (np.diff(table[:, 0]) == 1).all():
        raise ValueError("statsmodels' elnino: expected one row a year without gaps")
    return Series("sea surface temperature off Puerto Chicama", "°C", int(table[0, 0]), values)


class Scales(NamedTuple):
    """What turns values into anomalies and back.

    Attributes:
        climatology: `(12,)`, the mean of each calendar month.
        deviation: the standard deviation of the anomalies.
    """

    climatology: Floats
    deviation: float

    @classmethod
    def of(cls, past: Floats) -> "Scales":
        """Estimates them from the months given."""
        month = np.arange(len(past)) % MONTHS
        climatology = np.array([past[month == m].mean() for m in range(MONTHS)])
        return cls(climatology, float((past - climatology[month]).std()))

    def seasonal(self, months: Ints) -> Floats:
        """The mean of the calendar month of each of `months`."""
        return self.climatology[months % MONTHS]


def targets(origins: Ints, horizon: int) -> Ints:
    """The months that are forecast from each origin: `(origins, horizon)`."""
    return origins[:, None] + 1 + np.arange(horizon)


def windows(values: npt.NDArray, origins: Ints, length: int) -> npt.NDArray:
    """The `length` values up to each origin, the origin's own last: `(origins, length, ...)`."""
    return values[origins[:, None] + np.arange(1 - length, 1)]


def seasonal_naive(values: Floats, origins: Ints, horizon: int) -> Floats:
    """The last known value of the same calendar month: `(origins, horizon)`."""
    months = targets(origins, horizon)
    years_back = 1 + np.arange(horizon) // MONTHS
    return values[months - MONTHS * years_back]


class Linear(NamedTuple):
    """Autoregression: each month ahead is a constant plus fixed multiples of the last months.

    Attributes:
        coefficients: `(1 + order, horizon)`, constants first, then from the earliest month to the latest.
    """

    coefficients: Floats

    @property
    def order(self) -> int:
        """How many past months count."""
        return len(self.coefficients) - 1

    @classmethod
    def fit(cls, past: Floats, order: int, horizon: int) -> "Linear":
        """Least squares for each month ahead, over all origins whose targets lie in the months given."""
        origins = np.arange(order - 1, len(past) - horizon)
        known = _with_constant(windows(past, origins, order))
        return cls(np.asarray(np.linalg.lstsq(known, past[targets(origins, horizon)], rcond=None)[0], np.float64))

    @classmethod
    def select(cls, past: Floats, horizon: int, last: int) -> "Linear":
        """As `fit`, with the order of the least squared error on the `last` months given, estimated without them."""
        before = len(past) - last
        origins = np.arange(before - 1, len(past) - horizon)

        def error(order: int) -> float:
            made = cls.fit(past[:before], order, horizon).forecast(past, origins)
            return float(((made - past[targets(origins, horizon)]) ** 2).mean())

        return cls.fit(past, min(range(1, 2 * MONTHS + 1), key=error), horizon)

    def forecast(self, values: Floats, origins: Ints) -> Floats:
        """Forecasts from each origin: `(origins, horizon)`."""
        return _with_constant(windows(values, origins, self.order)) @ self.coefficients


def _with_constant(rows: Floats) -> Floats:
    return np.concatenate([np.ones((len(rows), 1)), rows], axis=1)
