"""Measures of forecasts, against scikit-learn and the definitions value by value."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_pinball_loss

from jaxnn import metrics

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(40, 3))


def test_the_scaled_error_is_the_error_in_units_of_the_seasonal_naive_forecast():
    past = RNG.normal(size=30)
    unit = mean_absolute_error(past[4:], past[:-4])
    forecast = TRUTH + RNG.normal(size=TRUTH.shape)
    np.testing.assert_allclose(metrics.naive_error(past, period=4), unit)
    np.testing.assert_allclose(
        metrics.mase(TRUTH, forecast, past, period=4), mean_absolute_error(TRUTH, forecast) / unit
    )
    by_column = mean_absolute_error(TRUTH, forecast, multioutput="raw_values") / unit
    np.testing.assert_allclose(metrics.mase(TRUTH, forecast, past, period=4, axis=0), by_column)


def test_the_interval_score_is_the_pinball_losses_of_both_ends():
    """Gneiting and Raftery: the score of a central interval is the sum of two quantile scores times 2 / alpha."""
    level, centre, half = 0.8, RNG.normal(size=TRUTH.shape), RNG.uniform(size=TRUTH.shape)
    low, high = centre - half, centre + half
    losses = mean_pinball_loss(TRUTH, low, alpha=0.1) + mean_pinball_loss(TRUTH, high, alpha=0.9)
    scores = metrics.interval_score(TRUTH, low, high, level=level)
    np.testing.assert_allclose(scores.mean(), 2 / (1 - level) * losses)
    inside = [a <= y <= b for y, a, b in zip(TRUTH.flat, low.flat, high.flat, strict=True)]
    assert metrics.coverage(TRUTH, low, high) == sum(inside) / TRUTH.size
    assert np.isnan(metrics.coverage([np.nan, 1.0], [0.0, 0.0], [2.0, 2.0]))  # as the scores are
    np.testing.assert_allclose(scores.ravel()[inside], (high - low).ravel()[inside])


def test_the_true_quantiles_have_the_best_score():
    values = np.linspace(0, 1, 2001)

    def score(half):
        return metrics.interval_score(values, np.full(2001, 0.5 - half), np.full(2001, 0.5 + half), level=0.9).mean()

    assert min((0.40, 0.44, 0.45, 0.46, 0.5), key=score) == 0.45


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: metrics.naive_error([1.0, 2.0], period=2), r"past: expected finite numbers \(n,\) with n above .* 2"),
        (lambda: metrics.naive_error([1.0, np.nan, 2.0]), "past: expected finite numbers"),
        (lambda: metrics.naive_error([1.0, 2.0, 1.0, 2.0], period=2), "past: expected values that differ from those 2"),
        (lambda: metrics.naive_error([1.0, 2.0], period=0), "period: expected"),
        (
            lambda: metrics.mase([1.0], [1.0, 2.0], [1.0, 2.0]),
            r"forecast: expected the shape of truth, \(1,\), got \(2,",
        ),
        (lambda: metrics.coverage([1.0], [2.0], [1.0]), "lower: expected at most upper, got 2.0 and 1.0 at position 0"),
        (
            lambda: metrics.interval_score([1.0], [0.0], [1.0], level=1),
            "level: expected a number between 0 and 1, got 1",
        ),
    ],
)
def test_what_does_not_serve_is_named(function, message):
    with pytest.raises(ValueError, match=message):
        function()
