"""Values and all gradients against Flax's cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as R

from .common import CASES, assert_close, random_state, random_x

FEATURES, HIDDEN = 3, 4


def _blocks(a):
    return jnp.split(a, a.shape[-1] // HIDDEN, axis=-1)


def _lstm_cell(params):
    cell = nnx.LSTMCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0))
    for gate, w_x, w_h, b in zip(("i", "f_", "g", "o"), *map(_blocks, params[:3]), strict=True):
        getattr(cell, f"i{gate}").kernel[...] = w_x
        into_h = getattr(cell, f"h{gate[0]}")
        into_h.kernel[...], into_h.bias[...] = w_h, b
    return cell


def _gru_cell(params):
    cell = nnx.GRUCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...], cell.dense_i.bias[...] = params.w_x, params.b
    w_hr, w_hz, w_hn = _blocks(params.w_h)
    cell.dense_h.kernel[...] = jnp.concatenate([w_hr, w_hz, w_hn], axis=-1)
    return cell


def _rnn_cell(params):
    cell = nnx.SimpleCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...], cell.dense_i.bias[...] = params.w_x, params.b
    cell.dense_h.kernel[...] = params.w_h
    return cell


BUILDERS = {"rnn": _rnn_cell, "gru": _gru_cell, "lstm": _lstm_cell}


def _by_flax(name, params, x, state):
    cell = BUILDERS[name](params)
    carry = (state.c, state.h) if name == "lstm" else state.h
    ys = []
    for t in range(x.shape[-2]):
        carry, y = cell(carry, x[:, t])
        ys.append(y)
    h, *c = reversed(carry) if name == "lstm" else (carry,)
    return jnp.stack(ys, axis=1), type(state)(h, *c)


@pytest.mark.parametrize("name", BUILDERS)
def test_values_and_gradients_agree_with_flax(name):
    case = CASES[name]
    params = case.params(FEATURES, HIDDEN)
    if name == "gru":  # Flax's cell has no bias inside the reset product
        params = params._replace(b_hn=jnp.zeros(HIDDEN))
    x, state = random_x(2, 5, FEATURES), random_state(params, (2,))

    def loss(run):
        def of(params, x, state):
            y, final = run(params, x, state)
            return sum(jnp.sum(jnp.sin(a)) for a in (y, *final)), (y, final)

        return jax.jit(jax.value_and_grad(of, argnums=(0, 1, 2), has_aux=True))(params, x, state)

    (_, ours), (d_params, *d_ours) = loss(case.layer)
    (_, theirs), (d_want, *d_theirs) = loss(lambda *args: _by_flax(name, *args))
    if name == "gru":
        d_params, d_want = (d._replace(b_hn=np.zeros(HIDDEN)) for d in (d_params, d_want))
    assert_close(ours, theirs)
    assert_close(d_params, d_want, 1e-4, 1e-4)
    assert_close(d_ours, d_theirs, 1e-4, 1e-4)


def test_coupled_gates_are_the_input_gate_with_opposite_sign():
    """`1 - sigmoid(f) = sigmoid(-f)`, so a coupled LSTM is a full one with `-f` in the place of `i`."""
    coupled = CASES["lstm-coupled"].params(FEATURES, HIDDEN)

    def full(a):
        f, g, o = _blocks(a)
        return jnp.concatenate([-f, f, g, o], axis=-1)

    x = random_x(2, 5, FEATURES)
    assert_close(R.lstm(coupled, x), R.lstm(R.LSTMParams(*map(full, coupled[:3])), x))
