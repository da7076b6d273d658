"""Time series, and the real ones that statsmodels contains: they need no network."""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from jaxnn import extras

Floats = npt.NDArray[np.float64]
Scale = Literal["none", "sqrt", "log"]


class Series(NamedTuple):
    """A series of values at equal distances in time.

    `period` is the length of the season in steps: 12 months, 4 quarters, 52.18 weeks, or 1 without a season.

    Attributes:
        name: Its short name.
        unit: The unit of its values.
        step: The name of one step, for example `month`.
        first: The time of its first value, in years.
        per_year: Steps per year, for the axis of time.
        period: Length of the season in steps.
        scale: The scale on which fluctuations are about as large at high values as at low ones.
        values: `(time,)`.

    Example:
        >>> import numpy as np
        >>> from jaxnn import data
        >>> series = data.Series("sales", "$", "month", 2024.0, 12, 12, "log", np.array([100.0, 110.0, 121.0]))
        >>> series.transformed().round(2).tolist(), series.label(14)
        ([4.61, 4.7, 4.8], '2025-03')
    """

    name: str
    unit: str
    step: str
    first: float
    per_year: float
    period: float
    scale: Scale
    values: Floats

    def transformed(self) -> Floats:
        """Converts the values to the series' scale."""
        if self.scale == "sqrt":
            return np.sqrt(self.values)
        return np.log(self.values) if self.scale == "log" else self.values

    def restored(self, transformed: Floats) -> Floats:
        """Converts numbers on the series' scale back to values."""
        if self.scale == "sqrt":
            return np.square(np.maximum(transformed, 0))
        return np.exp(transformed) if self.scale == "log" else transformed

    def years(self, steps: npt.NDArray) -> Floats:
        """Returns the time of each of these steps, in years."""
        return self.first + np.asarray(steps) / self.per_year

    def label(self, step: int) -> str:
        """Returns the time of a step as text: `1958`, `1958-Q1`, `1958-03`, `1958-03-29`."""
        year = float(self.years(np.array(step)))
        parts = {"year": 1, "quarter": 4, "month": 12}.get(self.step)
        if parts is None:
            hours = np.timedelta64(round((year - 1970) * 8766), "h")
            return str(np.datetime64("1970-01-01T00") + hours)[: 13 if self.step == "hour" else 10]
        whole, part = divmod(round(year * parts), parts)
        return {1: f"{whole}", 4: f"{whole}-Q{part + 1}", 12: f"{whole}-{part + 1:02d}"}[parts]


def load_series() -> list[Series]:
    """Loads ten real series that statsmodels contains: yearly, quarterly, monthly and weekly ones.

    Returns:
        The series; gaps are filled with the last value before them.

    Raises:
        ModuleNotFoundError: If statsmodels is not installed.

    Example:
        >>> from jaxnn import data
        >>> nile = data.load_series()[1]  # doctest: +SKIP
        >>> nile.name, nile.unit, nile.label(0), len(nile.values), nile.period  # doctest: +SKIP
        ('Nile', '10⁸ m³', '1871', 100, 1)
    """
    with extras.needed("data.load_series: statsmodels, which contains the series,", "experiments"):
        from statsmodels.datasets import co2, elec_equip, elnino, interest_inflation, macrodata, nile, sunspots

    def column(data: Any, name: str) -> Floats:
        return np.asarray(data.load_pandas().data[name], np.float64)

    def quarterly(name: str, unit: str, scale: Scale, values: Floats, first: float = 1959.0) -> Series:
        return Series(name, unit, "quarter", first, 4, 4, scale, values)

    temperatures = elnino.load_pandas().data.to_numpy(float)[:, 1:].ravel()  # a row a year: the year, 12 months
    electric = elec_equip.load_pandas().data.to_numpy(float).ravel()
    weeks = 365.25 / 7
    return [
        Series("sunspots", "sunspots", "year", 1700, 1, 1, "sqrt", column(sunspots, "SUNACTIVITY")),
        Series("Nile", "10⁸ m³", "year", 1871, 1, 1, "none", column(nile, "volume")),
        Series("El Niño", "°C", "month", 1950, 12, 12, "none", temperatures),
        Series("carbon dioxide", "ppm", "week", 1958 + 87 / 365.25, weeks, weeks, "none", _filled(column(co2, "co2"))),
        Series("electrical equipment", "2010 = 100", "month", 1995, 12, 12, "log", electric),
        quarterly("US product", "10⁹ $", "log", column(macrodata, "realgdp")),
        quarterly("US investment", "10⁹ $", "log", column(macrodata, "realinv")),
        quarterly("US unemployment", "%", "log", column(macrodata, "unemp")),
        quarterly("US bill rate", "%", "sqrt", column(macrodata, "tbilrate")),
        quarterly("German inflation", "a quarter", "none", column(interest_inflation, "Dp"), 1972.25),
    ]


def _filled(values: Floats) -> Floats:
    """Fills each gap with the last value before it, which a forecast of the time could have known."""
    known = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[known]
