"""Every layer and variant against the formulas in float64; `tests/test_cases.py` compares other dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles_recurrent as oracle

from .common import CASES, KINDS, assert_close, float64, random_state, random_x


@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("name", KINDS)
def test_lengths_resets_direction_and_batch_axes_agree_with_the_formula(name, data):
    case = CASES[name]
    params = case.params()
    batch = data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    time = data.draw(st.integers(1, 5))
    lengths = np.array(
        data.draw(st.lists(st.integers(0, time), min_size=int(np.prod(batch)), max_size=int(np.prod(batch)))),
        np.int32,
    ).reshape(batch)
    resets = np.array(
        data.draw(st.lists(st.booleans(), min_size=int(np.prod(batch)) * time, max_size=int(np.prod(batch)) * time)),
        bool,
    ).reshape(*batch, time)
    reverse = data.draw(st.booleans())
    seed = data.draw(st.integers(0, 9))
    x, state = random_x(*batch, time, 3, seed=seed), random_state(params, batch, seed)
    run = jax.jit(case.layer, static_argnames="reverse")
    y, final = run(params, x, state, lengths=lengths, resets=resets, reverse=reverse)
    want_y, want = oracle.batch(
        case.oracle,
        float64(params),
        float64(x),
        tuple(float64(state)),
        lengths=lengths,
        resets=resets,
        reverse=reverse,
    )
    assert_close(y, want_y)
    assert_close(tuple(final), want)


@pytest.mark.parametrize("name", CASES)
def test_a_sequence_agrees_with_the_formula_in_both_directions(name):
    case = CASES[name]
    with jax.enable_x64(True):
        params = case.params(dtype=jnp.float64)
        x, state = random_x(2, 5, 3, dtype=jnp.float64), random_state(params, (2,), dtype=jnp.float64)

        @jax.jit
        def both(*args):
            return [case.layer(*args, reverse=reverse, **case.options) for reverse in (False, True)]

        for reverse, (y, final) in enumerate(both(params, x, state)):
            assert y.dtype == jnp.float64
            want_y, want = oracle.batch(
                case.oracle, params, x, tuple(state), reverse=bool(reverse), **case.oracle_options
            )
            assert_close(y, want_y, 1e-12, 1e-12)
            assert_close(tuple(final), want, 1e-12, 1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_no_state_means_zeros(name):
    case = CASES[name]
    params, x = case.params(), random_x(2, 4, 3)
    given_zeros = case.layer(params, x, params.zero_state((2,), jnp.float32))
    assert_close(case.layer(params, x), given_zeros, 0, 0)


@pytest.mark.parametrize("name", KINDS)
def test_a_sequence_of_no_steps_returns_the_initial_state(name):
    case = CASES[name]
    params = case.params()
    state = random_state(params, (2,))
    y, final = case.layer(params, jnp.zeros((2, 0, 3)), state, remat=4)
    assert y.shape == (2, 0, params.output)
    assert_close(final, state, 0, 0)
