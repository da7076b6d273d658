"""Filters of logits against their definitions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn.functional.filtering import filter_logits


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 99),
    k=st.none() | st.integers(1, 7),
    p=st.none() | st.floats(0.05, 1.0),
    temperature=st.floats(0.3, 3.0),
)
def test_filters_keep_what_their_definitions_say(seed, k, p, temperature):
    logits = np.random.default_rng(seed).normal(size=(2, 6)).astype(np.float32)
    got = filter_logits(jnp.asarray(logits), temperature=temperature, top_k=k, top_p=p)
    for row, row_got in zip(np.float64(logits) / temperature, np.asarray(got), strict=True):
        order = np.argsort(-row)
        kept = list(order[: k or 6])
        if p is not None:
            probs = np.exp(row[kept]) / np.exp(row[kept]).sum()
            before = np.concatenate([[0], np.cumsum(probs)[:-1]])
            if np.any(np.abs(before - p) < 1e-5):
                return  # too near to the border for float32 to say
            kept = [token for token, b in zip(kept, before, strict=True) if b < p]
        assert sorted(np.flatnonzero(np.isfinite(row_got))) == sorted(kept)
        np.testing.assert_allclose(row_got[kept], row[kept], rtol=1e-4, atol=1e-5)


def _kept(logits, **options):
    return np.flatnonzero(np.isfinite(np.asarray(filter_logits(jnp.asarray(logits, jnp.float32), **options)))).tolist()


@pytest.mark.parametrize("logits", [[20.0, 0.0], [0.0, 300.0, -300.0], [-3e38, 3e38]])
def test_a_nucleus_of_everything_drops_nothing(logits):
    assert _kept(logits, top_p=1.0) == list(range(len(logits)))
    assert _kept(logits, top_p=np.float32(1)) == list(range(len(logits)))
    assert _kept([*logits, -np.inf], top_p=1.0) == list(range(len(logits)))


@pytest.mark.optimized  # XLA simplifies arithmetic
@pytest.mark.parametrize("size", [2, 3, 5, 7, 10, 1000, 50_000])
def test_of_equal_tokens_the_nucleus_holds_exactly_its_share_the_first_ones(size):
    filtered = jax.jit(lambda p: filter_logits(jnp.full(size, 2.5), top_p=p))
    for keep in {1, size // 3, size // 2, size - 1} - {0}:
        assert np.flatnonzero(np.isfinite(filtered(keep / size))).tolist() == list(range(keep))


@pytest.mark.optimized
@pytest.mark.parametrize(("size", "scale"), [(50, 0.1), (50, 3.0), (50, 30.0), (100_000, 3.0)])
def test_a_nucleus_holds_what_sums_in_float64_say(size, scale):
    logits = np.random.default_rng(size).normal(size=size).astype(np.float32) * np.float32(scale)
    filtered = jax.jit(lambda p: filter_logits(jnp.asarray(logits), top_p=p))
    order = np.argsort(-logits, kind="stable")
    mass = np.exp(np.float64(logits[order] - logits.max()))
    before, rest = np.cumsum(mass) - mass, np.cumsum(mass[::-1])[::-1]
    for p in np.float32([1e-9, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 2e-7]):
        # Below 1 where the tokens before have not reached p, which itself is rounded.
        odds, at_least = (before * (1 - np.float64(p) + slack) / (rest * np.float64(p)) for slack in (1e-7, 0))
        kept = np.isfinite(np.asarray(filtered(p)))[order]
        assert kept[odds < 1 - 1e-5].all()
        assert not kept[at_least > 1 + 1e-5].any()
        assert np.all(np.diff(kept.astype(int)) <= 0)  # no token is kept after one that is not


@pytest.mark.optimized
def test_rows_with_infinities_and_nan():
    logits = jnp.array([[0.0, -jnp.inf, 1.0], [jnp.inf, 5.0, jnp.inf], [-jnp.inf] * 3, [0.0, jnp.nan, 1.0]])
    for options in ({}, {"top_p": 0.9}, {"top_p": 1.0}, {"temperature": 0.5, "top_k": 3, "top_p": 0.99}):
        got = np.asarray(jax.jit(lambda a, options=options: filter_logits(a, **options))(logits))
        assert np.isneginf(got[0]).tolist() == [False, True, False]
        # Infinitely more probable than the rest.
        assert np.isneginf(got[1, 1]) or np.isposinf(got[1, 0])
        assert not np.isnan(got[:3]).any()
        assert np.isneginf(got[2]).all()
        assert np.isnan(got[3]).all()
    drawn = jax.random.categorical(jax.random.key(0), filter_logits(logits[1], top_p=0.9), shape=(99,))
    assert set(drawn.tolist()) <= {0, 2}


@pytest.mark.optimized
def test_a_traced_temperature_goes_down_to_its_limit_of_zero():
    logits = jnp.array([[1.0, 3.0, 3.0, -jnp.inf], [100.0, 50.0, -100.0, 99.0], [-5.0, -5.5, -6.0, -7.0]])
    cooled = jax.jit(lambda t: jax.nn.softmax(filter_logits(logits, temperature=t)))
    for cold in (0.0, 1e-45, 1e-38, 1e-30):
        np.testing.assert_array_equal(cooled(cold), [[0, 0.5, 0.5, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(cooled(2.0), jax.nn.softmax(logits / 2), rtol=1e-6)
    filtered = jax.jit(lambda t: filter_logits(logits, temperature=t))
    np.testing.assert_array_equal(filtered(1.0), logits)
    for wrong in (np.nan, -1.0, np.inf):
        assert np.isnan(filtered(wrong)).all()
    per_row = jax.vmap(lambda row, t: filter_logits(row, temperature=t))(logits, jnp.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(per_row[2], logits[2] / 4)


@pytest.mark.optimized
def test_a_traced_nucleus_of_nothing_keeps_one_token():
    nucleus = jax.jit(lambda p: filter_logits(jnp.array([1.0, 2.0, 2.0]), top_p=p))
    for tiny in (0.0, 1e-45, 1e-38):
        np.testing.assert_array_equal(nucleus(tiny), [-np.inf, 2, -np.inf])
    for wrong in (np.nan, -0.1, 1.1):
        assert np.isnan(nucleus(wrong)).all()


@pytest.mark.parametrize("scalar", [float, np.float32, np.float64, jnp.float32, np.asarray])
@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("temperature", "top_p") for value in (0.0, -0.5, np.nan, np.inf)] + [("top_p", 1.5)],
)
def test_numbers_out_of_range_are_named_whoever_made_them(scalar, name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a .*number"):
        filter_logits(jnp.ones(3), **{name: scalar(value)})


@pytest.mark.parametrize("wrong", [True, "0.5", 1j, np.ones(2), np.bool_(True), jnp.ones(1)])
def test_what_is_no_number_is_named(wrong):
    for name in ("temperature", "top_p"):
        with pytest.raises(ValueError, match=f"{name}: expected a .*number"):
            filter_logits(jnp.ones(3), **{name: wrong})


@pytest.mark.parametrize("wrong", [0, -1, 2.5, 2.0, True, np.float32(2), np.nan, "2"])
def test_a_top_k_that_is_no_count_is_named(wrong):
    with pytest.raises(ValueError, match="top_k: expected a whole number of at least 1"):
        filter_logits(jnp.ones(3), top_k=wrong)


def test_integers_of_any_make_and_larger_than_the_vocabulary_count():
    for two in (2, np.int64(2), np.uint8(2), jnp.int32(2)):
        assert _kept([1.0, 2.0, 3.0], top_k=two) == [1, 2]
    assert _kept([1.0, 2.0, 3.0], top_k=99) == [0, 1, 2]
    assert _kept([1.0, 2.0, 3.0], temperature=2, top_p=1) == [0, 1, 2]


def test_a_scalar_is_no_distribution():
    with pytest.raises(ValueError, match=r"logits: expected \(\*batch, vocabulary\), got a scalar"):
        filter_logits(jnp.float32(1))
