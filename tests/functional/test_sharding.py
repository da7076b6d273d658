"""Under an explicit mesh, where shardings are part of types, a batch spread over devices stays so on the way."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import functional as F
from tests import cases

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")

KEY = jax.random.key(0)
GRU = F.init_gru(KEY, 3, 4)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, 6, 3)), jnp.float32)
LENGTHS = jnp.arange(8) % 7
ZERO = GRU.zero_state((8,), jnp.float32)


def gru_step(state, token):
    state = F.gru_step(GRU, state, jax.nn.one_hot(token, 3))
    return state.h[:, :3], state


def generate(method, **options):
    return lambda x, lengths: method(gru_step, ZERO, lengths % 3, max_length=5, end=1, **options)


CASES = {
    "attention": lambda x, lengths: F.attention(x, x, lengths=lengths),
    "greedy": generate(F.greedy),
    "sample": generate(F.sample, key=KEY),
    "beam": generate(F.beam_search, beams=2),
}
MESH = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,)) if jax.device_count() >= 8 else None


def spread(*arrays):
    return tuple(jax.device_put(a, NamedSharding(MESH, P("data"))) for a in arrays)


@pytest.mark.parametrize("set_mesh", [False, True], ids=["mesh of the arrays", "mesh set"])
@pytest.mark.parametrize("name", CASES)
def test_the_batch_may_be_sharded(name, set_mesh):
    call = CASES[name]
    expected = call(X, LENGTHS)
    with jax.set_mesh(MESH) if set_mesh else contextlib.nullcontext():
        got = call(*spread(X, LENGTHS))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
            assert a.sharding.spec[0] == "data"


LAYERS = [case for case in cases.CASES if case.suites == "all" or case in cases.RECURRENT]


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_gradients_of_a_sharded_batch_need_no_mesh_set(case):
    """Every layer, compiled: the mesh of the arrays is enough."""

    def loss(floating, arrays):
        outputs = case.function(*(f if a is None else a for f, a in zip(floating, arrays, strict=True)))
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(outputs)), outputs

    def to_float32(leaf):
        return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf

    args = jax.tree.map(to_float32, case.args(batch=(8,)))
    integers = [None if jax.tree.leaves(a)[0].dtype == np.float32 else a for a in args]
    floating = [a if integer is None else None for a, integer in zip(args, integers, strict=True)]
    specs = [P() if axis is None else P("data") for axis in case.batch_axes]
    placed = [
        [jax.device_put(a, NamedSharding(MESH, spec)) for a, spec in zip(group, specs, strict=True)]
        for group in (floating, integers)
    ]
    gradient = jax.jit(jax.grad(loss, has_aux=True))
    got, got_outputs = gradient(*placed)
    expected, outputs = gradient(floating, integers)
    for a, b in zip(jax.tree.leaves((got, got_outputs)), jax.tree.leaves((expected, outputs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(jnp.abs(b).max()))
    assert all(leaf.sharding.spec[0] == "data" for leaf in jax.tree.leaves(got_outputs))
    for gradients, axis in zip(got, case.batch_axes, strict=True):
        assert all(("data" in leaf.sharding.spec) == (axis == 0) for leaf in jax.tree.leaves(gradients))


def test_the_fused_algorithm_says_that_it_cannot():
    with pytest.raises(
        ValueError, match="algorithm='fused' has no support for arrays that are sharded over an explicit mesh"
    ):
        F.gru(GRU, *spread(X), algorithm="fused")
