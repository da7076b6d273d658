"""Forward mode, reverse mode and second derivatives against finite differences; truncation; remat and its memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as R
from jaxnn import testing

from .common import CASES, KINDS, assert_close, random_state, random_x, with_gradients


@pytest.mark.parametrize("name", [n for n in CASES if n != "rnn-relu"])  # its corner defeats differences
def test_derivatives_of_both_modes_agree_with_finite_differences(name):
    case = CASES[name]
    with jax.enable_x64(True):
        params = case.params(features=2, hidden=2, dtype=jnp.float64)
        x, state = random_x(2, 3, 2, dtype=jnp.float64), random_state(params, (2,), dtype=jnp.float64)
        lengths = jnp.array([3, 2])

        def run(params, x, state):
            return case.layer(params, x, state, lengths=lengths, **case.options)

        testing.assert_gradients(run, (params, x, state), order=2 if name in ("gru", "lstm") else 1)


def test_remat_beyond_the_sequence_runs_where_a_person_debugs_without_jit():
    params, x = R.init_rnn(jax.random.key(0), 3, 4), random_x(3, 3)
    expected = R.rnn(params, x)
    with jax.disable_jit():
        assert_close(R.rnn(params, x, remat=4), expected, 1e-6, 1e-6)


def test_remat_trades_memory_for_time():
    """Measured by the compiled program: at T = 10,000 a hundredth of the steps and one block of them are kept."""
    params = R.init_lstm(jax.random.key(0), 16, 32)
    x = jax.ShapeDtypeStruct((10_000, 4, 16), jnp.float32)

    def memory(remat):
        def loss(params, x):
            return jnp.sum(R.lstm(params, x, time_major=True, remat=remat)[1].h)

        return jax.jit(jax.grad(loss)).lower(params, x).compile().memory_analysis().temp_size_in_bytes

    assert memory(100) < memory(None) / 5


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_truncation_keeps_values_and_stops_gradients_between_chunks(name, reverse):
    case = CASES[name]
    params = case.params()
    x, state = random_x(2, 7, 3), random_state(params, (2,))

    def by_hand(params, x, state):
        chunks = [x[:, :3], x[:, 3:6], x[:, 6:]]
        ys = []
        for n, chunk in enumerate(reversed(chunks) if reverse else chunks):
            state = jax.lax.stop_gradient(state) if n > 0 else state
            y, state = case.layer(params, chunk, state, reverse=reverse)
            ys.append(y)
        return jnp.concatenate(ys[::-1] if reverse else ys, axis=1), state

    (_, values), gradients = jax.jit(with_gradients(partial(case.layer, reverse=reverse, truncate=3)))(params, x, state)
    (_, of_parts), expected = jax.jit(with_gradients(by_hand))(params, x, state)
    assert_close(gradients, expected, 1e-5, 1e-5)
    assert_close(values, of_parts, 1e-6, 1e-6)
    assert_close(values, jax.jit(partial(case.layer, reverse=reverse))(params, x, state), 1e-6, 1e-6)


WIDE = {"lstm": {"c"}, "lstm-everything": {"c"}, "mingru": {"h"}, "minlstm": {"h"}, "slstm": {"c", "n", "m"}}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", ["rnn", "gru", "lru", *WIDE])
def test_half_precision_stays_half_but_for_the_sums_in_a_state(name, dtype):
    """Values and gradients in half precision are in `tests/test_cases.py`."""
    case = CASES[name]
    params, x = case.params(dtype=dtype), random_x(2, 6, 3, dtype=dtype)
    y, state = jax.eval_shape(case.layer, params, x)
    assert y.dtype == dtype
    for field, leaf in state._asdict().items():
        wide = jnp.complex64 if (name, field) == ("lru", "h") else jnp.float32 if field in WIDE.get(name, ()) else dtype
        assert leaf.dtype == wide, field
    gradients = jax.eval_shape(
        jax.grad(lambda *args: jnp.sum(case.layer(*args)[0].astype(jnp.float32)), (0, 1)), params, x
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype(dtype)}


def test_products_of_half_precision_accumulate_in_float32():
    """4096 equal terms: summed in bfloat16 the total would stop growing at 256 terms."""
    params = R.RNNParams(
        jnp.full((4096, 1), 0.001, jnp.bfloat16), jnp.zeros((1, 1), jnp.bfloat16), jnp.zeros(1, jnp.bfloat16)
    )
    y, _ = R.rnn(params, jnp.ones((1, 4096), jnp.bfloat16), activation=lambda a: a)
    np.testing.assert_allclose(y[0, 0].astype(jnp.float32), 4096 * 0.001, rtol=0.01)


@pytest.mark.parametrize(
    "options", [{"algorithm": "scan"}, {"algorithm": "fused"}, {"algorithm": "fused", "remat": 1}], ids=str
)
def test_gradients_of_half_precision_are_sums_over_steps_in_float32(options):
    """600 equal steps: in bfloat16 the gradients would stop growing at 256."""
    params = R.RNNParams(*(jnp.zeros(shape, jnp.bfloat16) for shape in ((1, 1), (1, 1), (1,))))
    x = jnp.ones((600, 1), jnp.bfloat16)

    gradient = jax.jit(jax.grad(lambda params: jnp.sum(R.rnn(params, x, **options)[0].astype(jnp.float32))))(params)
    np.testing.assert_allclose(float(gradient.w_x[0, 0]), 600, rtol=1e-2)
    np.testing.assert_allclose(float(gradient.b[0]), 600, rtol=1e-2)


def test_a_float32_cell_counts_where_a_bfloat16_cell_would_stand_still():
    """Open gates and a candidate of 1 add about 1 a step; bfloat16 cannot count past 256."""
    bias = jnp.repeat(jnp.array([20.0, 20.0, 20.0, 20.0]), 1).astype(jnp.bfloat16)
    params = R.LSTMParams(jnp.zeros((1, 4), jnp.bfloat16), jnp.zeros((1, 4), jnp.bfloat16), bias)
    _, state = R.lstm(params, jnp.zeros((1000, 1), jnp.bfloat16))
    np.testing.assert_allclose(state.c, 1000, rtol=1e-3)
