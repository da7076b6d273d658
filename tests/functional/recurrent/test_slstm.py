"""What the exponential gates of the sLSTM are stabilised for, and its first step."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F

from .common import CASES, assert_close, random_x

GATES = pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])


def shifted(params, i=0.0, f=0.0):
    hidden = params.hidden
    return params._replace(b=jnp.asarray(params.b).at[:hidden].add(i).at[hidden : 2 * hidden].add(f))


@GATES
def test_the_first_step_forgets_nothing_and_takes_its_input_whole(forget_gate):
    params, x = CASES["slstm"].params(), random_x(2, 3)

    @jax.jit
    def step(params, x):
        state = F.slstm_step(params, params.zero_state((2,), x.dtype), x, forget_gate=forget_gate)
        return sum(jnp.sum(a) for a in state), state

    pre_i, _, z, o = jnp.split(x @ params.w_x + params.b[None], 4, axis=-1)
    gradient = jax.jit(jax.grad(step, argnums=(0, 1), has_aux=True))
    for i, f in itertools.product([-1000.0, 0.0, 1000.0], repeat=2):
        gradients, state = gradient(shifted(params, i, f), x)
        np.testing.assert_array_equal(state.n, 1)
        assert_close(state.c, jnp.tanh(z))
        assert_close(state.m, pre_i + i, atol=2e-4)
        assert_close(state.h, jax.nn.sigmoid(o) * jnp.tanh(z))
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(gradients))


@GATES
def test_input_gates_count_relative_to_each_other(forget_gate):
    """exp(500) overflows; a factor of all the input gates cancels between the cell state and the normaliser."""
    params, x = CASES["slstm"].params(), random_x(2, 6, 3)

    def run(params, x):
        return jnp.sum(jnp.sin(F.slstm(params, x, forget_gate=forget_gate)[0]))

    run = jax.jit(jax.value_and_grad(run, argnums=(0, 1)))
    expected = run(params, x)
    for shift in (-500.0, 500.0):  # leaves a pre-activation 15 bits for its fraction
        assert_close(run(shifted(params, shift), x), expected, 1e-3, 1e-4)


def test_an_open_forget_gate_averages_and_a_closed_one_keeps_the_last():
    """With f = 1 and equal input gates, h is the output gate times the mean of tanh(z)."""
    params = F.SLSTMParams(jnp.array([[0.0, 0.0, 1.0, 0.0]]), jnp.zeros((1, 4)), jnp.zeros(4))
    x = random_x(7, 1)
    y, _ = F.slstm(params, x, forget_gate="exp")
    mean = np.cumsum(np.tanh(np.asarray(x, np.float64)), axis=0) / np.arange(1, 8)[:, None]
    np.testing.assert_allclose(y, 0.5 * mean, rtol=1e-5, atol=1e-6)
    y, _ = F.slstm(shifted(params, f=-200.0), x)
    np.testing.assert_allclose(y, 0.5 * np.tanh(x), rtol=1e-5, atol=1e-6)


@GATES
def test_a_long_sequence_stays_bounded(forget_gate):
    params = shifted(CASES["slstm"].params(), i=3.0, f=2.0)
    y, state = F.slstm(params, 5 * random_x(3000, 3), forget_gate=forget_gate)
    assert np.all(np.abs(y) <= 1)
    assert np.all(state.n >= 1)
    assert all(np.isfinite(a).all() for a in state)


def test_a_float32_normaliser_counts_where_a_bfloat16_one_would_stand_still():
    """1000 steps of equal weight: bfloat16 cannot count past 256."""
    params = F.SLSTMParams(*(jnp.zeros(shape, jnp.bfloat16) for shape in ((1, 4), (1, 4), (4,))))
    _, state = F.slstm(params, jnp.zeros((1000, 1), jnp.bfloat16), forget_gate="exp")
    np.testing.assert_allclose(state.n, 1000, rtol=1e-3)


def test_bad_input_is_named():
    params, x = CASES["slstm"].params(), jnp.ones((2, 5, 3))
    for call in (F.slstm, lambda p, x, **o: F.slstm_step(p, p.zero_state((2,), x.dtype), x[:, 0], **o)):
        with pytest.raises(ValueError, match="forget_gate: expected 'sigmoid' or 'exp', got 'tanh'"):
            call(params, x, forget_gate="tanh")
        with pytest.raises(ValueError, match=r"params\.w_h: expected shape \(4, 16\)"):
            call(params._replace(w_h=jnp.ones((4, 12))), x)
        with pytest.raises(ValueError, match=r"params\.b: expected shape \(16,\)"):
            call(params._replace(b=jnp.ones(4)), x)
    with pytest.raises(ValueError, match="algorithm='fused' has no fused form"):
        F.slstm(params, x, algorithm="fused")
