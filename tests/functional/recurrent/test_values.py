"""Every layer and variant against the formulas in float64; `tests/test_cases.py` compares other dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles_recurrent as oracle

from .common import CASES, KINDS, assert_close, float64, random_state, random_x


@settings(max_examples=10, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("name", KINDS)
def test_lengths_masks_resets_direction_and_batch_axes_agree_with_the_formula(name, data):
    case = CASES[name]
    params = case.params()
    batch = data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    time, seed, reverse = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 9)), data.draw(st.booleans())

    def drawn(values, dtype, *shape):
        size = int(np.prod(shape))
        return np.array(data.draw(st.lists(values, min_size=size, max_size=size)), dtype).reshape(shape)

    options = {
        "lengths": drawn(st.integers(0, time), np.int32, *batch),
        "mask": drawn(st.sampled_from([True, True, False]), bool, *batch, time),
        "resets": drawn(st.booleans(), bool, *batch, time),
    }
    x, state = random_x(*batch, time, 3, seed=seed), random_state(params, batch, seed)
    poisoned = np.where(options["mask"][..., None], x, np.nan)
    y, final = jax.jit(case.layer, static_argnames="reverse")(params, poisoned, state, reverse=reverse, **options)
    want_y, want = oracle.batch(
        case.oracle, float64(params), float64(x), tuple(float64(state)), reverse=reverse, **options
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
