"""Recurrent layers under a mesh with explicit axes give what one device gives, with and without `jax.set_mesh`."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import functional as R
from jaxnn import modules

from .common import CASES, randomised

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")

X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 5, 3)), jnp.float32)
LENGTHS = np.arange(8) % 6
RESETS = np.random.default_rng(1).integers(0, 3, (8, 5)) == 0
KEY = jax.random.key(0)


def _case(name, **options):
    case = CASES[name]
    return case.params(), lambda p, x: case.layer(p, x, **case.options, **options)


def _stack():
    both = R.Directions(CASES["gru"].params(seed=0), CASES["gru"].params(seed=1))
    params = [both, CASES["gru"].params(8, 4, seed=2)]
    return params, lambda p, x: R.stack(R.gru, p, x, lengths=LENGTHS, dropout=0.5, key=KEY)


def _module():
    layer = modules.LSTM(3, 4, layers=2, bidirectional=True, dropout=0.5, return_state=True, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(layer, nnx.Param, ...)
    zeros = layer.zero_state((8,))
    # The state is given, on one device.
    return params, lambda p, x: nnx.merge(graph, p, rest)(x, state=zeros, deterministic=True)


def _moved():
    params, layer = _case("rnn", time_major=True)
    return params, lambda p, x: layer(p, jnp.moveaxis(x, 1, 0))


def _pictures():
    params = randomised(R.init_conv_lstm(KEY, 1, 2, (3,)))
    return params, lambda p, x: R.conv_lstm(p, x[..., None], lengths=LENGTHS)


CALLS = {
    "rnn-relu": lambda: _case("rnn-relu"),
    "gru with remat": lambda: _case("gru-reset-before", remat=2, truncate=2, reverse=True),
    "lstm with lengths and resets": lambda: _case("lstm-everything", lengths=LENGTHS, resets=RESETS),
    "slstm with heads and resets": lambda: _case("slstm-heads-exp", resets=RESETS),
    "conv_lstm": _pictures,
    "time-major": _moved,
    "associative": lambda: _case(
        "minlstm", algorithm="associative", lengths=LENGTHS, resets=RESETS, truncate=2, reverse=True
    ),
    "stack": _stack,
    "module": _module,
}


def _assert_same(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6 * max(1.0, float(jnp.abs(b).max())))


@functools.cache
def _on_one_device(name):
    """Parameters, a loss with what it is of, and its value and gradients."""
    params, call = CALLS[name]()

    def loss(params, x):
        y, state = call(params, x)
        return jnp.sum(y**2) + sum(jnp.sum(s.astype(jnp.float32)) for s in jax.tree.leaves(state)), y

    return params, loss, jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, X)


@pytest.mark.parametrize(
    ("context", "spec"),
    [(contextlib.nullcontext, P("data")), (jax.set_mesh, P("data")), (jax.set_mesh, P())],
    ids=["no context", "set_mesh", "set_mesh, replicated"],
)
@pytest.mark.parametrize("name", CALLS)
def test_explicit_axes(name, context, spec):
    params, loss, (value, gradients) = _on_one_device(name)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    # Without a context JAX 0.12 does not say how the gradient of a weight, a sum over the sharded batch, is sharded.
    wanted = (0, 1) if context is jax.set_mesh else (1,)
    with context(mesh) if context is jax.set_mesh else context():
        x = jax.device_put(X, NamedSharding(mesh, spec))
        step = jax.jit(jax.value_and_grad(loss, wanted, has_aux=True))
        got = step(jax.device_put(params, NamedSharding(mesh, P())), x)
    _assert_same(got, (value, [gradients[n] for n in wanted]))
    assert got[1][-1].sharding.spec[:1] == (*spec, None)[:1]


def test_an_eager_call_takes_the_devices_from_the_inputs():
    params, call = _case("lstm", lengths=LENGTHS)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    y, state = call(params, jax.device_put(X, NamedSharding(mesh, P("data"))))
    _assert_same((y, state), call(params, X))
    assert y.sharding.spec[0] == state.c.sharding.spec[0] == "data"
