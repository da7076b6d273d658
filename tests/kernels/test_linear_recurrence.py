"""The linear recurrence over all steps at once against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.kernels.linear_recurrence import linear_recurrence


def _loop(a, b, start, reverse):
    h, out = start, np.zeros_like(b)
    for t in reversed(range(len(b))) if reverse else range(len(b)):
        h = (a[t] * h if a.ndim == b.ndim else np.einsum("ij...,j...->i...", a[t], h)) + b[t]
        out[t] = h
    return out


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("time", [1, 2, 7])
def test_agrees_with_a_loop_for_elements_and_blocks(time, reverse):
    rng = np.random.default_rng(time)
    a = [rng.normal(size=(time, 2, 5)), rng.normal(size=(time, 3, 3, 2))]
    b = [rng.normal(size=(time, 2, 5)), rng.normal(size=(time, 3, 2))]
    start = [rng.normal(size=(2, 5)), rng.normal(size=(3, 2))]
    for first in (start, None):
        with jax.enable_x64(True):
            given = None if first is None else [jnp.asarray(h) for h in first]
            got = linear_recurrence([jnp.asarray(m) for m in a], [jnp.asarray(v) for v in b], given, reverse=reverse)
        begin = [np.zeros_like(h) for h in start] if first is None else first
        for ours, *theirs in zip(got, a, b, begin, strict=True):
            np.testing.assert_allclose(ours, _loop(*theirs, reverse), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_passes_a_cut_not_even_nan(reverse):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 7, 3, 2))
    cut = rng.random((7, 3)) < 0.4
    cut[3] = True
    soiled = b.copy()
    soiled[(5 if reverse else 1) :][:1] = np.nan
    with jax.enable_x64(True):
        got, other = (linear_recurrence(*map(jnp.asarray, (a, c)), cut=cut, reverse=reverse) for c in (b, soiled))
    expected = _loop(np.where(cut[..., None], 0, a), b, np.zeros((3, 2)), reverse)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    late = slice(None, 4) if reverse else slice(3, None)
    np.testing.assert_array_equal(other[late], got[late])


def test_sequential_operations_grow_as_the_logarithm_of_time():
    """Nothing in the program loops, and doubling the time adds a level to the tree, not a step to a chain."""

    def equations(time):
        a = jax.ShapeDtypeStruct((time, 4), jnp.float32)
        jaxpr = jax.make_jaxpr(linear_recurrence)(a, a).jaxpr
        assert not {eqn.primitive.name for eqn in jaxpr.eqns} & {"scan", "while"}
        return sum(eqn.primitive.name in ("mul", "add") for eqn in jaxpr.eqns)

    a, b, c = (equations(time) for time in (256, 512, 1024))
    assert b - a == c - b < 10
