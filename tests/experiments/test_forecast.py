"""The forecast experiment: nothing leaks from the future, and the simple forecasts are what they say."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import forecast
from experiments.data import series
from tests.experiments.stops import resume

pytest.importorskip("statsmodels", reason="the series comes inside statsmodels")

SMALL = forecast.Options(horizon=4, window=6, held_out=5, hidden=3, epochs=1, seeds=2, batch_size=64)


@pytest.fixture(scope="module")
def elnino():
    return series.load_elnino()


def test_the_series_is_whole(elnino):
    assert elnino.values.shape == (61 * 12,)
    assert 15 < elnino.values.min() < elnino.values.max() < 35


def test_changing_the_future_changes_no_forecast(elnino):
    cut = forecast.check(SMALL, elnino)
    after = cut + 20  # origins up to the month before know nothing of what is changed
    changed = elnino.values.copy()
    changed[after:] += 5 * np.random.default_rng(0).normal(size=len(changed) - after)
    known = forecast.scored(elnino.values, cut, SMALL.horizon) < after
    before, afterwards = (forecast.forecast(values, cut, SMALL) for values in (elnino.values, changed))
    assert list(before) == list(afterwards)
    for name in before:
        np.testing.assert_array_equal(before[name][known], afterwards[name][known], err_msg=name)
        if name != "climatology":  # what is known later is used: the test would see a leak
            assert np.any(before[name][~known] != afterwards[name][~known])


def test_the_seasonal_naive_forecast_is_the_same_month_of_the_last_known_year():
    values = np.arange(60.0)
    made = series.seasonal_naive(values, np.array([30]), 14)
    np.testing.assert_array_equal(made[0], [*range(19, 31), 19, 20])


def test_the_linear_forecast_finds_the_coefficients_of_an_autoregression():
    rng = np.random.default_rng(0)
    values = np.zeros(20_000)
    for t in range(2, len(values)):
        values[t] = 1.0 + 1.2 * values[t - 1] - 0.5 * values[t - 2] + rng.normal()
    np.testing.assert_allclose(series.Linear.fit(values, 2, 1).coefficients[:, 0], [1.0, -0.5, 1.2], atol=0.05)


def test_a_short_run_leaves_numbers_and_pictures_and_goes_on(elnino, tmp_path, capsys, monkeypatch):
    forecast.main(dataclasses.replace(SMALL, tune=True, run=tmp_path / "run"))
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert result["unit"] == "°C"
    assert set(result["errors"]["LSTM"]["one_step"]) == {"mae", "rmse"}
    assert (tmp_path / "run" / "errors.png").stat().st_size > 0
    assert (tmp_path / "run" / "forecasts.png").stat().st_size > 0
    assert "judged on 2001 to 2005 (the end is cut off to tune)" in capsys.readouterr().out
    (tmp_path / "run" / "result.json").unlink()  # as if it had been killed before
    resume(forecast, tmp_path / "run", monkeypatch)
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["errors"] == result["errors"]
    assert "compiled in" not in capsys.readouterr().out  # there is nothing left to train


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "--horizon: expected a whole number of at least 1"),
        ({"horizon": 61}, "--horizon: expected at most the months of the held-out end, 60, got 61"),
        ({"held_out": 30}, "--held-out: expected fewer years, got 30"),
        ({"window": 900}, "--window 900 need a series of"),
        ({"noise": -0.1}, "--noise: expected a "),
        ({"seeds": 0}, "--seeds: expected a whole number of at least 1"),
        ({"learning_rate": -1.0}, "--learning-rate: expected a finite number that is not negative"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message, elnino):
    with pytest.raises(ValueError, match=message):
        forecast.check(dataclasses.replace(SMALL, **options), elnino)
