"""Under an explicit mesh, where shardings are part of types, a batch spread over devices stays so on the way."""

import contextlib
from functools import partial

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


def gru_step(state, token):
    state = F.gru_step(GRU, state, jax.nn.one_hot(token, 3))
    return state.h[:, :3], state


def generate(method, **options):
    def call(x, lengths):
        zero = GRU.zero_state(lengths.shape, jnp.float32)
        return method(gru_step, zero, lengths % 3, max_length=5, end=1, **options)

    return call


CASES = {
    "attention": lambda x, lengths: F.attention(x, x, lengths=lengths),
    "greedy": generate(F.greedy),
    "sample": generate(F.sample, key=KEY),
    "beam": generate(F.beam_search, beams=2),
    "ctc_beam_search": lambda x, lengths: F.ctc_beam_search(x, lengths, beams=2),
}
MESH = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,)) if jax.device_count() >= 8 else None


FLAT = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)) if jax.device_count() >= 8 else None


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


WINDOWS = {
    "conv": lambda x: F.conv(x, jnp.ones((3, 3, 2)), stride=2),
    "conv_transpose": lambda x: F.conv_transpose(x, jnp.ones((3, 3, 2)), stride=2),
    "max_pool": lambda x: F.max_pool(x, (2,)),
    "avg_pool": lambda x: F.avg_pool(x, (2,)),
    "lp_pool": lambda x: F.lp_pool(x, (2,)),
    "ctc_greedy": lambda x: F.ctc_greedy(x).labels,
    "ctc_beam_search": lambda x: F.ctc_beam_search(x, beams=2).labels,
}


@pytest.mark.parametrize("layer", WINDOWS.values(), ids=WINDOWS)
def test_another_batch_axis_than_the_first_may_be_sharded(layer):
    """Frames of time before a sharded batch, for example."""
    x = jnp.stack([X, -X, X[::-1]])
    got = jax.jit(layer)(jax.device_put(x, NamedSharding(MESH, P(None, "data"))))
    np.testing.assert_allclose(got, layer(x), rtol=1e-5, atol=1e-6)
    assert got.sharding.spec[:2] == (None, "data")


@pytest.mark.parametrize("name", [name for name in CASES if name != "sample"])  # the devices would draw the same
def test_shard_map_over_the_batch(name):
    """With `check_vma`: states that begin with zeros vary over the devices from the first step."""
    sharded = jax.shard_map(CASES[name], mesh=FLAT, in_specs=(P("data"), P("data")), out_specs=P("data"))
    got, expected = jax.jit(sharded)(X, LENGTHS), CASES[name](X, LENGTHS)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


RECURRENT = {"rnn": "auto", "gru": "scan", "lstm": "fused", "slstm": "scan"}


def loss(name, params, x):
    y, _ = getattr(F, name)(params, x, algorithm=RECURRENT[name])
    return jnp.mean(jnp.sin(y))


@pytest.mark.parametrize("name", RECURRENT)
def test_shard_map_over_an_ensemble_on_the_same_sequences(name):
    """The parameters vary over the devices, and the sequences do not."""
    params = getattr(F, f"init_{name}")(KEY, 3, 4)
    members = jax.tree.map(lambda p: jnp.stack([p * (1 + i / 8) for i in range(8)]), params)
    gradient = jax.vmap(jax.grad(partial(loss, name)), (0, None))
    sharded = jax.shard_map(gradient, mesh=FLAT, in_specs=(P("data"), P()), out_specs=P("data"))
    got, expected = jax.jit(sharded)(members, X), jax.jit(gradient)(members, X)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", RECURRENT)
def test_the_gradient_is_summed_over_the_devices_once_and_not_at_every_step(name):
    params = getattr(F, f"init_{name}")(KEY, 3, 4)
    gradient = jax.shard_map(
        jax.grad(lambda params, x: jax.lax.pmean(loss(name, params, x), "data")),
        mesh=FLAT,
        in_specs=(P(), P("data")),
        out_specs=P(),
    )
    (program,) = jax.make_jaxpr(gradient)(params, X).eqns
    loops = [e for e in program.params["jaxpr"].eqns if "psum" not in e.primitive.name]
    assert loops
    assert "psum" not in str(loops)
    got, expected = jax.jit(gradient)(params, X), jax.jit(jax.grad(partial(loss, name)))(params, X)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
