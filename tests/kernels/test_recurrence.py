"""The fused recurrence against the plain scan: values, every derivative, every option; and the programs it becomes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import functional as F
from jaxnn.kernels import plain, recurrence
from tests.functional.recurrent.common import CASES, assert_close, random_state, random_x, summed

FUSED = ("rnn", "rnn-relu", "gru", "gru-reset-before", "lstm")
FEATURES, HIDDEN = 3, 4

OPTIONS = {
    "plain": {},
    "everything, backward": {
        "lengths": jnp.array([4, 2, 0]),
        "resets": jnp.asarray(np.random.default_rng(1).random((3, 4)) < 0.3),
        "truncate": 2,
        "reverse": True,
    },
    "remat, lengths": {"remat": 3, "lengths": jnp.array([4, 3, 1])},
}


def setting(name, batch=(3,), dtype=jnp.float64):
    params = CASES[name].params(FEATURES, HIDDEN, dtype=dtype)
    x, state = random_x(*batch, 4, FEATURES, dtype=dtype), random_state(params, batch, dtype=dtype)
    return params, x, state


def loss(name, algorithm, **options):
    case = CASES[name]

    def of(params, x, state):
        return summed(case.layer(params, x, state, algorithm=algorithm, **case.options, **options))

    return of


def along(tree):
    return jax.tree.map(lambda a: jnp.cos(a + 0.3), tree)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", FUSED)
def test_values_gradients_and_forward_mode_are_those_of_the_scan(name, options):
    with jax.enable_x64(True):
        args = setting(name)

        def program(algorithm):
            of = loss(name, algorithm, **options)
            return jax.value_and_grad(of, (0, 1, 2))(*args), jax.jvp(of, args, along(args))[1]

        assert_close(*(jax.jit(program, static_argnums=0)(a) for a in ("fused", "scan")), 1e-11, 1e-11)


@pytest.mark.parametrize("name", ["rnn", "gru", "gru-reset-before", "lstm"])
def test_second_derivatives_in_every_order_are_those_of_the_scan(name):
    with jax.enable_x64(True):
        args = setting(name, ())

        def program(algorithm):
            of = loss(name, algorithm)
            gradient = jax.grad(of, (0, 1, 2))

            def slope(*args):
                return jax.jvp(of, args, along(args))[1]

            def projected(*args):
                pairs = zip(jax.tree.leaves(gradient(*args)), jax.tree.leaves(along(args)), strict=True)
                return sum(jnp.vdot(a, b) for a, b in pairs)

            return (
                jax.jvp(gradient, args, along(args))[1],
                jax.grad(slope, (0, 1, 2))(*args),
                jax.grad(projected, (0, 1, 2))(*args),
            )

        assert_close(*(jax.jit(program, static_argnums=0)(a) for a in ("fused", "scan")), 1e-11, 1e-11)


@pytest.mark.parametrize("wanted", [0, 1, 2], ids=["parameters", "inputs", "state"])
def test_gradients_of_one_argument_alone(wanted):
    with jax.enable_x64(True):
        args = setting("lstm")
        got, expected = (jax.jit(jax.grad(loss("lstm", a), wanted))(*args) for a in ("fused", "scan"))
        assert_close(got, expected, 1e-11, 1e-11)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_gradients_of_an_ensemble_and_of_sequences_mapped(name):
    with jax.enable_x64(True):
        params, x, state = setting(name)
        several = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a, a + 0.1]), params)

        def program(algorithm):
            gradient = jax.grad(loss(name, algorithm), (0, 1, 2))
            return (
                jax.vmap(gradient, (0, None, None))(several, x, state),
                jax.vmap(gradient, (None, 0, 0))(params, x, state),
            )

        assert_close(*(jax.jit(program, static_argnums=0)(a) for a in ("fused", "scan")), 1e-11, 1e-11)


@pytest.mark.parametrize("name", ["gru", "lstm", "rnn"])
def test_projecting_the_inputs_first_changes_only_rounding(name, monkeypatch):
    params, x, state = setting(name, dtype=jnp.float32)
    results = []
    for most in (0, 100):
        monkeypatch.setattr(recurrence, "PROJECT_FIRST", most)
        results.append(jax.jit(jax.value_and_grad(loss(name, "fused"), (0, 1, 2)))(params, x, state))
    assert_close(*results, 1e-5, 1e-5)


def test_derivatives_stop_inside_plain_too():
    with jax.enable_x64(True):
        args = setting("lstm")
        expected = jax.jit(jax.grad(loss("lstm", "scan", truncate=2)))(*args)
        with plain():
            got = jax.jit(jax.grad(loss("lstm", "fused", truncate=2)))(*args)
        assert_close(got, expected, 1e-11, 1e-11)


@pytest.fixture(params=["units first", "halves"])
def products_of_large_layers(request, monkeypatch):
    monkeypatch.setattr(recurrence, "ROWS_ARE_FAST", request.param == "halves")
    for size in ("UNITS_FIRST_WIDTH", "UNITS_FIRST_SIZE", "HALVED_SIZE"):
        monkeypatch.setattr(recurrence, size, 1)


@pytest.mark.parametrize(("batch", "options"), [((2, 2), "plain"), ((3,), "everything, backward")])
def test_the_products_of_large_layers_have_the_derivatives_of_the_scan(batch, options, products_of_large_layers):
    with jax.enable_x64(True):
        args = setting("lstm", batch)

        def program(algorithm):
            of = loss("lstm", algorithm, **OPTIONS[options])
            gradient = jax.grad(of, (0, 1, 2))
            several = jax.vmap(gradient, (0, None, None))(
                jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), args[0]), *args[1:]
            )
            return of(*args), several, jax.jvp(of, args, along(args))[1], jax.jvp(gradient, args, along(args))[1]

        assert_close(*(jax.jit(program, static_argnums=0)(a) for a in ("fused", "scan")), 1e-11, 1e-11)


def test_the_products_of_large_layers_in_half_precision(products_of_large_layers):
    params, x, _ = setting("lstm", dtype=jnp.bfloat16)

    def gradients(algorithm):
        def of(params, x):
            return jnp.sum(jnp.sin(CASES["lstm"].layer(params, x, algorithm=algorithm)[0].astype(jnp.float32)))

        return jax.jit(jax.value_and_grad(of, (0, 1)))(params, x)

    got, expected = gradients("fused"), gradients("scan")
    assert jax.tree.map(lambda a: a.dtype, got) == jax.tree.map(lambda a: a.dtype, expected)
    assert_close(got, expected, 0.05, 0.05)


def test_products_are_halved_on_cpu_alone(monkeypatch):
    monkeypatch.setattr(recurrence, "ROWS_ARE_FAST", True)
    monkeypatch.setattr(recurrence, "HALVED_SIZE", 1)
    params, x, state = setting("lstm", dtype=jnp.float32)
    traced = jax.jit(lambda *args: CASES["lstm"].layer(*args, algorithm="fused")).trace(params, x, state)
    programs = {platform: traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "cuda")}
    assert {platform: text.count("dot_general") for platform, text in programs.items()} == {"cpu": 2, "cuda": 1}


def test_auto_is_fused_for_gated_layers_and_associative_for_linear_ones_on_gpus():
    params, x, state = setting("lstm", dtype=jnp.float32)
    auto, fused = (jax.make_jaxpr(jax.grad(loss("lstm", name)))(params, x, state) for name in ("auto", "fused"))
    assert str(auto) == str(fused)

    def run(params, x):
        return jnp.sum(F.mingru(params, x)[0])

    traced = jax.jit(jax.grad(run)).trace(F.init_mingru(jax.random.key(0), 3, 4), x)
    loops = {platform: traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "cuda", "tpu")}
    assert {platform: "stablehlo.while" in text for platform, text in loops.items()} == {
        "cpu": True,
        "cuda": False,
        "tpu": True,
    }


def scans(function, *args):
    """Of each scan in the function: the products in a step, and the number of arrays stacked over the steps."""
    found = []

    def visit(jaxpr):
        for eqn in jaxpr.eqns:
            bodies = [v for v in eqn.params.values() if hasattr(v, "jaxpr")]
            if eqn.primitive.name == "scan":
                step = bodies[0].jaxpr
                products = sum(e.primitive.name == "dot_general" for e in step.eqns)
                pairs = zip(eqn.outvars, step.outvars, strict=True)
                found.append((products, sum(whole.aval.ndim > one.aval.ndim for whole, one in pairs)))
            else:
                for body in bodies:
                    visit(body.jaxpr)

    visit(jax.make_jaxpr(function)(*args).jaxpr)
    return found


@pytest.mark.parametrize(("name", "forward"), [("rnn", 1), ("gru", 2), ("lstm", 1)])
def test_the_scans_hold_no_product_for_a_weights_gradient(name, forward):
    """Going back one product a step, for the state; the gradients of weights and inputs are products over all steps."""
    args = setting(name, dtype=jnp.float32)
    products = [n for n, _ in scans(jax.jit(jax.grad(loss(name, "fused"), (0, 1, 2))), *args)]
    assert products == [forward, 1]


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_without_a_derivative_only_the_outputs_are_stacked(name):
    args = setting(name, dtype=jnp.float32)
    (_, stacked), *more = scans(jax.jit(loss(name, "fused")), *args)
    assert stacked == 1
    assert not more


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("name", ["gru", "lstm"])
@pytest.mark.parametrize("how", ["jit", "shard_map", "explicit"])
def test_over_several_devices_gradients_are_those_of_one(name, how):
    params, x, state = setting(name, (16,), dtype=jnp.float32)
    layer = CASES[name].layer

    def of(params, x):
        return jnp.sum(layer(params, x)[0] ** 2)

    def given(params, x, state):
        return jnp.sum(layer(params, x, state)[0] ** 2)

    expected = jax.jit(jax.grad(of, (0, 1)))(params, x)
    kind = AxisType.Explicit if how == "explicit" else AxisType.Auto
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    spread, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    params, x = jax.device_put(params, whole), jax.device_put(x, spread)
    if how == "explicit":
        zeros = jax.device_put(jax.tree.map(jnp.zeros_like, state), spread)
        with jax.set_mesh(mesh):
            got = jax.jit(jax.grad(given, (0, 1)))(params, x, zeros)
    elif how == "shard_map":
        gradient = jax.grad(lambda *args: jax.lax.psum(of(*args), "data"), (0, 1))
        specs = (P(), P("data"))
        got = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=specs, out_specs=specs))(params, x)
    else:
        got = jax.jit(jax.grad(of, (0, 1)))(params, x)
    assert_close(got, expected, 1e-4, 1e-4)
