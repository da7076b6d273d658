"""`mask=`: steps that do not count, with every other option; `test_values.py` compares values with the formula."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .common import CASES, KINDS, assert_close, assert_same, random_state, random_x, with_gradients

pytestmark = pytest.mark.parametrize("name", KINDS)

BATCH, TIME = 3, 6
MASK = np.array([[1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 1]], bool)
RESETS = np.array([[0, 1, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0]], bool)


def _setting(name, dtype=jnp.float32):
    case = CASES[name]
    params = case.params(dtype=dtype)
    state = random_state(params, (BATCH,), dtype=dtype)
    return case, params, random_x(BATCH, TIME, 3, dtype=dtype), state


def test_with_lengths_the_steps_count_where_both_say_so(name):
    case, params, x, state = _setting(name)
    lengths = jnp.array([2, 6, 5])
    both = MASK & (np.arange(TIME) < np.asarray(lengths)[:, None])
    for reverse in (False, True):
        expected = case.layer(params, x, state, mask=both, reverse=reverse)
        assert_same(case.layer(params, x, state, mask=MASK, lengths=lengths, reverse=reverse), expected)


def test_remat_and_one_algorithm_or_another_change_nothing(name):
    """Blocks of one step, of four with a rest, of all steps and of more."""
    case, params, x, state = _setting(name)
    remat = {"rnn": 1, "gru": 4, "lstm": TIME, "lstm-projection": 50}[name]
    options = {"mask": MASK, "resets": RESETS, "lengths": np.array([6, 3, 5]), "reverse": True}
    expected = jax.jit(with_gradients(partial(case.layer, **options, algorithm="scan")))(params, x, state)
    for algorithm in ("scan", "auto"):
        layer = partial(case.layer, **options, algorithm=algorithm, remat=remat)
        got = jax.jit(with_gradients(layer))(params, x, state)
        assert_close(got, expected, 1e-5, 1e-6)


def test_truncation_cuts_between_steps_whether_they_count_or_not(name):
    case, params, x, _ = _setting(name)
    mask = jnp.asarray([True, True, False, False, True, True])

    def late(x, truncate):
        return jnp.sum(case.layer(params, x, mask=mask, truncate=truncate)[0][4:])

    gradient = jax.jit(jax.grad(late), static_argnums=1)
    assert gradient(x[0], None)[:2].any(axis=-1).all()
    cut = gradient(x[0], 3)
    assert not cut[:4].any()
    assert cut[4:].any(axis=-1).all()


def test_half_precision_carries_the_state_as_it_is(name):
    case, params, x, state = _setting(name, jnp.bfloat16)
    y, final = case.layer(params, x, state, mask=np.zeros_like(MASK))
    assert not y.any()
    assert_same(final, state)
    assert jax.tree.map(lambda a: a.dtype, final) == jax.tree.map(lambda a: a.dtype, state)
