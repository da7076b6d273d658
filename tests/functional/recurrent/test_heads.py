"""Block-diagonal recurrent weights: heads that see their own part of the state alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F

from .common import CASES, assert_close, random_state, random_x, randomised

KEY = jax.random.key(0)
LAYERS = {"gru": (F.init_gru, 3), "lstm": (F.init_lstm, 4), "slstm": (F.init_slstm, 4)}


@pytest.mark.parametrize("name", ["gru", "gru-reset-before", "lstm", "slstm"])
def test_one_head_is_the_dense_layer(name):
    case = CASES[name]
    params, x = case.params(), random_x(2, 6, 3)
    state = random_state(params, (2,))
    got = case.layer(params._replace(w_h=params.w_h[None]), x, state, algorithm="scan", **case.options)
    assert_close(got, case.layer(params, x, state, algorithm="scan", **case.options), 1e-6, 1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_heads_are_layers_side_by_side(name):
    init, gates = LAYERS[name]
    params, x = randomised(init(KEY, 3, 6, heads=2)), random_x(2, 5, 3)

    def of_head(a, head):
        """A head's columns of every gate."""
        return jnp.concatenate([a[..., n : n + 3] for n in range(3 * head, a.shape[-1], 6)], axis=-1)

    layer = getattr(F, name)
    alone = []
    for head in range(2):
        own = jax.tree.map(lambda a, head=head: of_head(a, head), params._replace(w_h=jnp.zeros((1, 6 * gates))))
        alone.append(layer(own._replace(w_h=params.w_h[head]), x))
    assert_close(layer(params, x), jax.tree.map(lambda *a: jnp.concatenate(a, axis=-1), *alone), 1e-5, 1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_every_head_and_gate_starts_orthogonal_and_different(name):
    init, gates = LAYERS[name]
    params = init(KEY, 3, 8, heads=2)
    assert params.w_h.shape == (2, 4, 4 * gates)
    assert (params.hidden, params.output) == (8, 8)
    blocks = [gate for head in params.w_h for gate in jnp.split(head, gates, axis=1)]
    for n, w in enumerate(blocks):
        np.testing.assert_allclose(w.T @ w, np.eye(4), atol=1e-5)
        assert all(not np.allclose(w, other) for other in blocks[:n])


def test_sizes_of_an_lstm_with_every_option():
    params = F.init_lstm(KEY, 3, 8, heads=2, projection=4, coupled=True)
    assert params.w_h.shape == (2, 2, 12)
    assert (params.hidden, params.output, params.gates) == (8, 4, 3)


def test_products_of_half_precision_accumulate_in_float32():
    """4096 equal terms: summed in bfloat16 the total would stop growing at 256 terms."""
    shapes = jax.eval_shape(lambda: F.init_lstm(KEY, 1, 2, heads=2, projection=8192, dtype=jnp.bfloat16))
    params = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    params = params._replace(w_h=jnp.asarray(params.w_h).at[:, :, 2].set(2.0**-12))  # of the candidate
    state = params.zero_state((), jnp.bfloat16)._replace(h=jnp.ones(8192, jnp.bfloat16))
    new = F.lstm_step(params, state, jnp.zeros(1, jnp.bfloat16))
    np.testing.assert_allclose(new.c, 0.5 * np.tanh(1), rtol=1e-2)


P = F.init_lstm(KEY, 3, 4, heads=2)
G = F.init_gru(KEY, 3, 4, heads=2)
X = jnp.ones((2, 5, 3))

CALLS = {
    "fused lstm": (
        lambda: F.lstm(P, X, algorithm="fused"),
        "algorithm='fused' has no support for heads; use 'scan', or 'auto'",
    ),
    "fused gru": (
        lambda: F.gru(G, X, algorithm="fused"),
        "algorithm='fused' has no support for heads; use 'scan', or 'auto'",
    ),
    "divisor": (lambda: F.init_gru(KEY, 3, 4, heads=3), "heads: expected a divisor of hidden=4, got 3"),
    "divisor of the projection": (
        lambda: F.init_lstm(KEY, 3, 4, heads=2, projection=3),
        "heads: expected a divisor of projection=3, got 2",
    ),
    "none": (lambda: F.init_slstm(KEY, 3, 4, heads=0), "heads: expected a whole number of at least 1, got 0"),
    "lstm columns": (lambda: F.lstm(P._replace(w_h=jnp.ones((2, 2, 4))), X), r"params\.w_h: expected 4 \* hidden"),
    "lstm uneven": (
        lambda: F.lstm(P._replace(w_h=jnp.ones((2, 2, 6)), projection=jnp.ones((3, 4)), b=jnp.ones(12)), X),
        r"params\.w_h: expected 4 \* hidden",
    ),
    "gru columns": (lambda: F.gru(G._replace(w_h=jnp.ones((2, 2, 8))), X), r"params\.w_h: expected shape \(2, 2, 6\)"),
    "axes": (lambda: F.gru(G._replace(w_h=jnp.ones((1, 2, 2, 6))), X), r"params\.w_h: expected 2 axes"),
    "rnn": (
        lambda: F.rnn(F.RNNParams(jnp.ones((3, 4)), jnp.ones((2, 2, 2)), jnp.ones(4)), X),
        r"params\.w_h: expected 2 axes",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_named(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()
