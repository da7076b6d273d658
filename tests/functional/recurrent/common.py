"""What the tests of the recurrent layers share: every layer and variant listed once, with random arguments.

Arguments are NumPy arrays: of a JAX array each slice would be a program to compile.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import functional as R
from jaxnn.kernels.accumulate import widened
from tests import oracles_recurrent as oracle


class Case(NamedTuple):
    """A layer, its step, its initialiser with options, and the oracle's step."""

    layer: Any
    step: Any
    init: Any
    oracle: Any
    init_options: dict
    options: dict
    oracle_options: dict

    def params(self, features=3, hidden=4, seed=0, dtype=jnp.float32):
        """Random weights, different for every gate; biases, peepholes and gains too."""
        return randomised(_initial(self.init, seed, features, hidden, *self.init_options.items()), seed, dtype)


@functools.cache
def _initial(init, seed, features, hidden, *options):
    """In NumPy and once: drawing weights takes some twenty small programs."""
    return jax.tree.map(np.asarray, init(jax.random.key(seed), features, hidden, **dict(options)))


def randomised(params, seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: (0.6 * rng.normal(size=a.shape) + 0.1 * np.asarray(a)).astype(dtype), params)


def _relu(a):
    return np.maximum(a, 0)


_rnn = (R.rnn, R.rnn_step, R.init_rnn, oracle.rnn_step)
_gru = (R.gru, R.gru_step, R.init_gru, oracle.gru_step)
_lstm = (R.lstm, R.lstm_step, R.init_lstm, oracle.lstm_step)
_mingru = (R.mingru, R.mingru_step, R.init_mingru, oracle.mingru_step)
_minlstm = (R.minlstm, R.minlstm_step, R.init_minlstm, oracle.minlstm_step)
_lru = (R.lru, R.lru_step, R.init_lru, oracle.lru_step)
_slstm = (R.slstm, R.slstm_step, R.init_slstm, oracle.slstm_step)
_everything = {"peephole": True, "projection": 3, "layer_norm": True}

CASES = {
    "rnn": Case(*_rnn, {}, {}, {}),
    "rnn-relu": Case(*_rnn, {}, {"activation": jax.nn.relu}, {"activation": _relu}),
    "gru": Case(*_gru, {}, {}, {}),
    "gru-reset-before": Case(*_gru, {}, {"reset_after": False}, {"reset_after": False}),
    "gru-activations": Case(
        *_gru,
        {},
        {"activation": jnp.sin, "gate_activation": lambda a: 0.5 * jnp.tanh(a)},
        {"activation": np.sin, "gate": lambda a: 0.5 * np.tanh(a)},
    ),
    "gru-heads": Case(*_gru, {"heads": 2}, {}, {}),
    "gru-heads-reset-before": Case(*_gru, {"heads": 2}, {"reset_after": False}, {"reset_after": False}),
    "lstm": Case(*_lstm, {}, {}, {}),
    "lstm-peephole": Case(*_lstm, {"peephole": True}, {}, {}),
    "lstm-projection": Case(*_lstm, {"projection": 3}, {}, {}),
    "lstm-coupled": Case(*_lstm, {"coupled": True}, {}, {}),
    "lstm-coupled-peephole": Case(*_lstm, {"coupled": True, "peephole": True}, {}, {}),
    "lstm-norm": Case(*_lstm, {"layer_norm": True}, {}, {}),
    "lstm-everything": Case(*_lstm, {"coupled": True, **_everything}, {}, {}),
    "lstm-heads": Case(*_lstm, {"heads": 2}, {}, {}),
    "lstm-heads-everything": Case(*_lstm, {"coupled": True, **_everything, "heads": 2, "projection": 2}, {}, {}),
    "lstm-activations": Case(
        *_lstm,
        _everything,
        {"activation": jnp.sin, "gate_activation": lambda a: 0.5 * jnp.tanh(a)},
        {"activation": np.sin, "gate": lambda a: 0.5 * np.tanh(a)},
    ),
    "mingru": Case(*_mingru, {}, {}, {}),
    "mingru-log-space": Case(*_mingru, {}, {"log_space": True}, {"log_space": True}),
    "minlstm": Case(*_minlstm, {}, {}, {}),
    "minlstm-log-space": Case(*_minlstm, {}, {"log_space": True}, {"log_space": True}),
    "lru": Case(*_lru, {"output": 5}, {}, {}),
    "slstm": Case(*_slstm, {}, {}, {}),
    "slstm-heads-exp": Case(*_slstm, {"heads": 2}, {"forget_gate": "exp"}, {"forget_gate": "exp"}),
}

# One of each kind, for properties of the drivers, which do not know the formulas. On CPU the first three run "fused",
# the last, for its projection, "scan".
KINDS = ("rnn", "gru", "lstm", "lstm-projection")


def random_state(params, batch, seed=1, dtype=jnp.float32):
    rng = np.random.default_rng(seed)

    def normal(a):
        values = rng.normal(size=a.shape)
        return (values + 1j * rng.normal(size=a.shape) if jnp.iscomplexobj(a) else values).astype(a.dtype)

    state = jax.tree.map(normal, params.zero_state(batch, dtype))
    # A normaliser is at least 1.
    return state._replace(n=1 + np.abs(state.n)) if isinstance(state, R.SLSTMState) else state


def random_x(*shape, seed=2, dtype=jnp.float32):
    return np.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.complex128 if jnp.iscomplexobj(a) else np.float64), tree)


def summed(tree):
    """A real number that depends on every element, real or complex, summed in at least float32."""
    parts = [part for a in jax.tree.leaves(tree) for part in ([a.real, a.imag] if jnp.iscomplexobj(a) else [a])]
    parts = [widened(part) for part in parts]
    return sum(jnp.sum(jnp.sin(a) * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)) for a in parts)


def with_gradients(layer):
    """From parameters, inputs and state to `((number, (outputs, final state)), gradients)`."""

    def loss(*args):
        values = layer(*args)
        return summed(values), values

    return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)


def assert_close(actual, desired, rtol=2e-5, atol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), actual, desired)


def assert_same(actual, desired):
    """Equal bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, actual, desired)
