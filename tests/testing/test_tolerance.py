import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.testing import tolerance


def test_short_sums_have_the_bound_that_always_holds():
    unit = 2.0**-24
    assert tolerance(jnp.float32, 4, roundings=1).scale == 5 * unit
    assert tolerance(jnp.float32, 4, roundings=3).scale == 7 * unit
    assert tolerance(jnp.float32, 4).rtol == 2 * unit


def test_long_sums_grow_as_the_square_root_of_their_length():
    short, long = (tolerance(jnp.float32, n, roundings=1).scale for n in (999, 99_999))
    assert long == pytest.approx(10 * short)


def test_half_precision_accumulates_in_float32_unless_told_otherwise():
    assert tolerance(jnp.bfloat16, 999).scale < 1.1 * 2.0**-8
    assert tolerance(jnp.bfloat16, 999, accumulate=jnp.bfloat16).scale > 100 * 2.0**-8
    assert tolerance(jnp.float64, 999).scale < 1e-13


def test_integers_are_exact():
    assert tolerance(jnp.int32, 10) == (0, 0, 0)


@pytest.mark.parametrize(("reduction", "roundings"), [(0, 1), (1, 0)])
def test_counts_must_be_positive(reduction, roundings):
    with pytest.raises(ValueError, match="expected numbers of at least 1, got"):
        tolerance(jnp.float32, reduction, roundings=roundings)


@pytest.mark.parametrize("n", [10, 1000, 100_000])
def test_a_naive_sum_in_float32_stays_within_and_not_far_below(n):
    """The bound is meant to be tight: errors of plain summation lie between a ten-thousandth of it and itself."""
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, 50, n)).astype(np.float32)
    total = np.cumsum(a * b, axis=1, dtype=np.float32)[:, -1]  # one after another, not in pairs
    products = a.astype(np.float64) * b
    error = np.abs(total - products.sum(axis=1))
    allowed = tolerance(np.float32, n).allowed(products.sum(axis=1), np.abs(products).sum(axis=1))
    assert 1e-4 < (error / allowed).max() <= 1
