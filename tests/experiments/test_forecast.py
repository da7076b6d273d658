"""The forecast experiment: nothing leaks from the future, and the simple forecasts and intervals are what they say."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from experiments import forecast
from experiments.data import rolling
from jaxnn import data
from tests.data.test_series import write
from tests.experiments.stops import resume

pytest.importorskip("statsmodels", reason="the series come inside statsmodels")

SMALL = forecast.Options(
    horizon=3, window=6, cuts=2, cell="rnn", hidden=2, epochs=1, examples=16, batch_size=8, seeds=2, noise=0.1, share=1
)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def real():
    return {series.name: series for series in data.load_series()}


def made(series, options):
    tasks = forecast.tasks_of(series, options)
    return forecast.forecast(tasks, forecast.work_of([each for group in tasks for each in group], options), options, {})


def test_changing_the_future_changes_no_forecast(real):
    """Values from `after` on are changed: what was forecast from before them stays, in every way, intervals too."""
    series = [real["Nile"], real["German inflation"]]
    after = [rolling.cuts(len(one.values), SMALL.horizon, SMALL.cuts)[2].at + 1 for one in series]
    changed = [
        one._replace(
            values=np.r_[one.values[:n], one.values[n:] + one.values.std() * RNG.normal(3, 1, len(one.values) - n)]
        )
        for one, n in zip(series, after, strict=True)
    ]
    for group, others, n in zip(*(made(each, SMALL) for each in (series, changed)), after, strict=True):
        assert [task.cut.at <= n for task in group] == [True, True, False]
        for task, other in zip(group, others, strict=True):
            early = (task.cut.origins < n) & (task.cut.at <= n)
            assert list(task.made) == ["naive", "seasonal-naive", "smoothing", "linear", "RNN"]
            for name in task.made:
                np.testing.assert_allclose(task.made[name][early], other.made[name][early], rtol=1e-6, err_msg=name)
                if not early.all():  # the test would see a leak
                    assert np.any(task.made[name][~early] != other.made[name][~early]), name


def test_cuts_judge_whole_blocks_and_end_with_the_series():
    cuts = rolling.cuts(100, 12, 4)
    assert [cut.at for cut in cuts] == [52, 69, 74, 79, 84, 100]
    origins = np.concatenate([cut.origins for cut in cuts])
    np.testing.assert_array_equal(origins, [*range(51, 88), 99])  # 87 + 12 is the last step


def test_the_season_is_the_classical_one(real):
    from statsmodels.tsa.seasonal import seasonal_decompose

    values = real["El Niño"].values
    for period in (12, 5):
        expected = seasonal_decompose(values[:500], period=period).seasonal
        found = rolling.season(values, period, 500, 3)
        np.testing.assert_allclose(found[:500], expected)
        np.testing.assert_allclose(found[500:], found[np.arange(500, 735) % period])


def test_the_naive_forecast_is_the_same_phase_of_the_last_season():
    values = np.arange(60.0)
    np.testing.assert_array_equal(rolling.seasonal_naive(values, 12, 14)[30], [*range(19, 31), 19, 20])
    np.testing.assert_array_equal(rolling.seasonal_naive(values, 52.18, 1)[51:, 0], np.arange(9.0))
    assert np.isnan(rolling.seasonal_naive(values, 12, 14)[10, 0])


def test_the_linear_forecast_finds_the_coefficients_of_an_autoregression():
    values = np.zeros(20_000)
    for t in range(2, len(values)):
        values[t] = 1.0 + 1.2 * values[t - 1] - 0.5 * values[t - 2] + RNG.normal()
    made = rolling.autoregression(values, 20_000, 1, 2)[100:, 0]
    np.testing.assert_allclose(made, 1.0 + 1.2 * values[100:] - 0.5 * values[99:-1], atol=0.5)
    walk = np.cumsum(values)
    made = rolling.autoregression(walk, 20_000, 1, 2, differenced=True)[100:, 0]
    np.testing.assert_allclose(made - walk[100:], 1.0 + 1.2 * values[100:] - 0.5 * values[99:-1], atol=0.5)
    assert rolling.linear(walk[:2000], 2000, 1, 8)[1]
    assert not rolling.linear(values[:2000], 2000, 1, 8)[1]


def test_smoothing_is_statsmodels_at_every_origin(real):
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    values, cut, kind = real["Nile"].values, 80, {"error": "add", "trend": "add", "damped_trend": True}
    found = rolling.exponential_smoothing(values, cut, 4)
    fitted = ETSModel(values[:cut], **kind).fit(disp=False)
    for origin in (79, 90):
        known = ETSModel(values[: origin + 1], **kind).smooth(fitted.params)
        np.testing.assert_allclose(found[origin], known.forecast(4), rtol=1e-6)


def test_intervals_become_as_wide_as_they_had_to_be(real):
    series = real["El Niño"]._replace(values=RNG.normal(size=2000), scale="none")
    cuts = [rolling.Cut(at, np.arange(at - 1, at + 399)) for at in (800, 1200, 1600)]
    narrow = np.broadcast_to([-0.1, 0.0, 0.1], (400, 1, 3))
    tasks = [
        rolling.Task(series, cut, {"linear": narrow}, np.full(1, 2.0), np.array([]), np.array([]), np.array([]))
        for cut in cuts
    ]
    found = rolling.calibrated(tasks, 0.9)
    for k, task in enumerate(found, start=1):
        missed = np.sort(np.abs(series.values[800 : cuts[k].at]))  # all values that earlier tasks forecast
        width = missed[int(np.ceil((len(missed) + 1) * 0.9)) - 1]
        np.testing.assert_allclose(task.made["linear"][0, 0], [-width, 0, width])
        inside = np.abs(task.truth) <= width
        assert 0.85 < np.nanmean(inside) < 0.95


def test_a_run_on_files_leaves_numbers_pictures_and_the_future_and_continues(tmp_path, capsys, monkeypatch):
    months = np.arange("2015-01", "2022-01", dtype="datetime64[M]")
    values = 20 + 5 * np.sin(np.arange(84) * np.pi / 6) + RNG.normal(size=84)
    paths = write(tmp_path / "a.csv", months, values), write(tmp_path / "b.csv", months, np.exp(values / 10))
    forecast.main(dataclasses.replace(SMALL, series=paths, scale="log", run=tmp_path / "run"))
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert set(result["scores"]) == {"a", "b"}
    assert set(result["scores"]["a"]["RNN"]) == {"mase", "mase_by_step", "coverage", "interval_score"}
    for name in ("errors.png", "forecasts.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    lines = (tmp_path / "run" / "forecasts.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[2] for line in lines] == ["time", *["2022-01", "2022-02", "2022-03"] * 2]
    assert "RNN: error at most that of linear on" in capsys.readouterr().out
    (tmp_path / "run" / "result.json").unlink()  # as if it had been killed before
    resume(forecast, tmp_path / "run", monkeypatch)
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["scores"] == result["scores"]
    assert "compiled in" not in capsys.readouterr().out  # there is nothing left to train


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"horizon": 30},
            "--horizon: expected no more than the 100 values of Nile allow, got 30 steps at 2 cuts, which need 1..; ",
        ),
        (
            {"series": (Path(__file__), Path(__file__))},
            "--series: expected files of different names, got test_forecast, t",
        ),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        forecast.series_of(dataclasses.replace(SMALL, **options))


def test_a_file_that_is_no_series_is_named_with_its_option_and_line(tmp_path):
    path = write(tmp_path / "a.csv", ["1990", "1991"], [1, "many"])
    with pytest.raises(ValueError, match=f"^--series: {path}, line 3: expected a finite number in the last column"):
        forecast.series_of(dataclasses.replace(SMALL, series=(path,)))


def test_tuning_leaves_the_held_out_end_out_and_series_that_are_too_short_then(real, capsys):
    options = dataclasses.replace(SMALL, horizon=12, window=24, cuts=4)
    assert len(forecast.series_of(options)) == 10
    for series in (found := forecast.series_of(dataclasses.replace(options, tune=True))):
        whole = real[series.name].values
        np.testing.assert_array_equal(series.values, whole[: rolling.cuts(len(whole), 12, 4)[1].at])
    assert len(found) == 8
    assert "too short before the held-out end: Nile, German inflation" in capsys.readouterr().out


def test_a_series_that_does_not_change_is_named(tmp_path):
    path = write(tmp_path / "flat.csv", range(1900, 2000), [5] * 100)
    with pytest.raises(ValueError, match="--series: expected values that change, got the same again and again in flat"):
        forecast.series_of(dataclasses.replace(SMALL, series=(path,)))
