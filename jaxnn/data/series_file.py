"""A time series as a CSV file, with times in the first column and values in the last."""

import csv
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from jaxnn.data.series import Scale, Series

PERIODS = {"hour": 24.0, "day": 7.0, "week": 365.25 / 7, "month": 12.0, "quarter": 4.0}
"""Length of the season in steps, by the kind of step, if `period` is not given."""

NAMES = {"h1": "hour", "D1": "day", "D7": "week", "M1": "month", "M3": "quarter", "M12": "year", "Y1": "year"}
"""Names of steps, by NumPy's unit of time and their number."""

UNITS = {"h": "hour", "D": "day", "M": "month", "Y": "year"}
PER_YEAR = {"h": 8766.0, "D": 365.25, "M": 12.0, "Y": 1.0}


def read_series(path: str | os.PathLike[str], *, period: float | None = None, scale: Scale = "none") -> Series:
    r"""Reads a CSV file with one value per line, at equal steps of time; a first line without a time is a header.

    Args:
        path: The file, with times in the first column (`2024`, `2024-05`, `2024-05-31` or `2024-05-31T14`) and values
            in the last.
        period: Length of the season in steps; by default a year, or a week of days, or a day of hours.
        scale: As for `Series`: `"none"`, `"sqrt"` or `"log"`.

    Returns:
        The series, named after the file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line has no time or value, times do not rise in equal steps, a value is not on the scale, or
            `period` or `scale` is out of range.

    Example:
        >>> import pathlib
        >>> from jaxnn import data
        >>> pathlib.Path("sales.csv").write_text("month,sold\n2024-11,3\n2024-12,5\n2025-01,4\n")
        41
        >>> series = data.read_series("sales.csv")
        >>> series.name, series.step, series.values.tolist(), series.label(3)
        ('sales', 'month', [3.0, 5.0, 4.0], '2025-02')
    """
    path = Path(path)
    if period is not None and not 1 <= period < math.inf:
        raise ValueError(f"period: expected a number of at least 1, or None, got {period}; 1 is no season.")
    if scale not in get_args(Scale):
        raise ValueError(f"scale: expected one of {', '.join(get_args(Scale))}, got {scale!r}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: expected a CSV file in UTF-8, got {error}; save it as one.") from error
    if rows and _time(rows[0][1][0]) is None:
        del rows[0]
    if len(rows) < 2:
        raise ValueError(f"{path}: expected a line for each value, got {len(rows)} lines; give a longer series.")
    times, values = [], []
    for number, row in rows:
        where, time, value = f"{path}, line {number}", _time(row[0]), _value(row)
        if time is None:
            raise ValueError(f"{where}: expected a time, 2024, 2024-05, 2024-05-31 or 2024-05-31T14, got {row[0]!r}")
        if value is None:
            raise ValueError(f"{where}: expected a finite number in the last column, got {row[1:]}; fill gaps first.")
        if (scale != "none" and value < 0) or (scale == "log" and value == 0):
            raise ValueError(f"{where}: expected a positive number, got {value:g}; the scale {scale} needs that.")
        times.append(time)
        values.append(value)
    unit, counts = _counted(path, times)
    gaps = np.diff(counts)
    step = int(np.median(gaps))
    if (wrong := (gaps != step) | (gaps <= 0)).any():
        first = int(wrong.argmax())
        later = f"{step} {UNITS[unit]}{'s' if step > 1 else ''} " if step > 0 else ""
        raise ValueError(
            f"{path}, line {rows[first + 1][0]}: expected a time {later}after {times[first]}, "
            f"got {times[first + 1]}; sort the lines and fill gaps."
        )
    name = NAMES.get(f"{unit}{step}", "step")
    start = 1970 + counts[0] / PER_YEAR[unit]
    return Series(
        path.stem, "", name, start, PER_YEAR[unit] / step, period or PERIODS.get(name, 1.0), scale, np.array(values)
    )


def _counted(path: Path, times: Sequence[Any]) -> tuple[str, Any]:
    """The unit of the times and each as a whole number of it: days more than four weeks apart are counted in months."""
    units = {np.datetime_data(time)[0] for time in times}
    if len(units) > 1:
        raise ValueError(f"{path}: expected times of one form, got {times[0]} and others; write all of them alike.")
    unit, exact = units.pop(), np.array(times)
    if unit == "D" and np.median(np.diff(exact).astype(int)) > 28:
        unit = "M"
    return unit, exact.astype(f"datetime64[{unit}]").astype(int)


def _time(text: str) -> Any:
    if not re.fullmatch(r"\d{4}(-\d\d(-\d\d(T\d\d)?)?)?", text.strip()):
        return None
    try:
        return np.datetime64(text.strip())
    except ValueError:
        return None


def _value(row: Sequence[str]) -> float | None:
    try:
        value = float(row[-1]) if len(row) > 1 else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
