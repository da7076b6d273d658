"""Time series: those that come inside statsmodels, and CSV files."""

import numpy as np
import pytest

from jaxnn.data import load_series, read_series


def test_the_series_are_whole():
    pytest.importorskip("statsmodels", reason="the series come inside statsmodels")
    real = {series.name: series for series in load_series()}
    assert len(real) == 10
    for series in real.values():
        assert np.isfinite(series.values).all(), series.name
        assert np.isfinite(series.transformed()).all(), series.name
        np.testing.assert_allclose(series.restored(series.transformed()), series.values, rtol=1e-12)
    assert [series.label(0) for series in real.values()][:4] == ["1700", "1871", "1950-01", "1958-03-29"]
    assert real["carbon dioxide"].label(2283) == "2001-12-29"
    assert real["German inflation"].label(106) == "1998-Q4"


def write(path, times, values):
    path.write_text(
        "time,value\n" + "".join(f"{t},{v}\n" for t, v in zip(times, values, strict=True)), encoding="utf-8"
    )
    return path


@pytest.mark.parametrize(
    ("times", "step", "per_year", "label"),
    [
        (["1990", "1991", "1992"], "year", 1, "1993"),
        (["1990-04", "1990-07", "1990-10"], "quarter", 4, "1991-Q1"),
        (["1990-11-30", "1990-12-31", "1991-01-31"], "month", 12, "1991-02"),
        (["1990-12-20", "1990-12-27", "1991-01-03"], "week", 365.25 / 7, "1991-01-10"),
        (["1990-12-31T22", "1990-12-31T23", "1991-01-01T00"], "hour", 8766, "1991-01-01T01"),
        (["1990", "1992", "1994"], "step", 0.5, "1996-01-01"),
    ],
)
def test_a_file_says_what_a_step_is(tmp_path, times, step, per_year, label):
    series = read_series(write(tmp_path / "a.csv", times, [1, 2, 3]))
    assert (series.step, series.values.tolist(), series.name) == (step, [1, 2, 3], "a")
    assert series.per_year == pytest.approx(per_year)
    assert series.period == pytest.approx({"hour": 24, "step": 1}.get(step, per_year))
    assert series.label(3) == label


@pytest.mark.parametrize(
    ("times", "values", "scale", "message"),
    [
        (
            ["1990", "1991", "1993"],
            [1, 2, 3],
            "none",
            "a.csv, line 4: expected a time 1 year after 1991, got 1993; sort",
        ),
        (["1991", "1990", "1989"], [1, 2, 3], "none", "a.csv, line 3: expected a time after 1991, got 1990; sort"),
        (["1990", "1991-01"], [1, 2], "none", "a.csv: expected times of one form, got 1990 and others"),
        (["1990", "1991"], [1, "many"], "none", r"a.csv, line 3: expected a finite number .* got \['many'\]; fill"),
        (["1990", "1991"], [1, ""], "none", r"a.csv, line 3: expected a finite number in the last column, got \[''\]"),
        (["1990", "1991"], [1, "nan"], "none", "a.csv, line 3: expected a finite number"),
        (["1990", "May"], [1, 2], "none", "a.csv, line 3: expected a time, 2024, .* got 'May'"),
        (["1990", "1991"], [1, 0], "log", "a.csv, line 3: expected a positive number, got 0; the scale log needs that"),
        (["1990"], [1], "none", "a.csv: expected a line for each value, got 1 lines; give a longer series"),
    ],
)
def test_a_file_that_is_no_series_is_named_with_its_line(tmp_path, times, values, scale, message):
    with pytest.raises(ValueError, match=message):
        read_series(write(tmp_path / "a.csv", times, values), scale=scale)


def test_a_period_or_scale_that_makes_no_sense_is_named(tmp_path):
    path = write(tmp_path / "a.csv", ["1990", "1991"], [1, 2])
    with pytest.raises(ValueError, match="period: expected a number of at least 1, or None, got 0; 1 is no season"):
        read_series(path, period=0)
    with pytest.raises(ValueError, match="scale: expected one of none, sqrt, log, got 'square'"):
        read_series(path, scale="square")
