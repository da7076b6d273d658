"""The LSTM of cuDNN.

On CPU JAX's own reference of it, `jax.experimental.rnn.lstm_ref`, stands for the library: so all that this package does
around the calls is compared with NumPy and with "scan". Tests marked `gpu` run the library itself.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn
from jax.extend.core import Primitive
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir
from jax.sharding import PartitionSpec as P

from jaxnn import functional as F
from jaxnn import kernels
from jaxnn.functional.recurrent.cell import NotServedError
from jaxnn.kernels import cudnn, cudnn_trial
from tests import oracles_recurrent as oracle
from tests.functional.recurrent.common import assert_close, float64, random_state, random_x, randomised, with_gradients

HERE = jax.default_backend() == "gpu"
TIME, FEATURES, HIDDEN = 6, 3, 4
PARAMS = randomised(F.init_lstm(jax.random.key(0), FEATURES, HIDDEN))
run = partial(F.lstm, algorithm="cudnn")
MISSING = cudnn_trial.missing  # before a fixture replaces it
OF_CUDNN = cudnn._of_cudnn


@pytest.fixture(scope="module", autouse=True)
def library():
    """cuDNN, or on other machines what stands for it."""
    if HERE:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        jax.clear_caches()
        patch.setattr(cudnn_trial, "missing", lambda: None)
        patch.setattr(rnn, "lstm_fwd", _forward)
        patch.setattr(rnn, "lstm_bwd", _backward)
        for primitive, function in ((cudnn.forward_p, cudnn._run_forward), (cudnn._backward, cudnn._run_backward)):
            mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=True), platform="cpu")
        yield
    jax.clear_caches()


def _reference(static, *arguments):
    *arrays, weights, lengths = arguments
    return rnn.lstm_ref(*arrays, *rnn.unpack_lstm_weights(weights, *static[:3], static[4]), lengths, *static[:5])


def _forward(*arguments):
    arrays, static = arguments[:5], arguments[5:]
    results = _reference(static, *arrays)
    return results, (*arrays, results[0], jnp.zeros(7))


def _backward(*arguments):
    *static, residuals, cotangents = arguments
    *arrays, lengths, _, reserved = residuals
    assert reserved.shape == (7,)
    pull = jax.vjp(lambda *arrays: _reference(static, *arrays, lengths), *arrays)[1]
    return *pull(cotangents), jnp.zeros_like(lengths)


MASK = np.random.default_rng(5).random((4, TIME)) < 0.5
OPTIONS = {
    "all steps": {},
    "lengths": {"lengths": np.array([6, 0, 3, 1], np.int32)},
    "backward": {"reverse": True},
    "mask, backward": {"mask": MASK, "reverse": True},
    "in blocks": {"lengths": np.array([6, 0, 3, 5], np.int32), "remat": 4, "reverse": True},
}


def weighed(layer, **options):
    return jax.jit(with_gradients(partial(layer, **options)))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_values_agree_with_the_formula_and_gradients_with_those_of_scan(options):
    x, state = random_x(4, TIME, FEATURES), random_state(PARAMS, (4,))
    past = ~np.asarray(options.get("mask", np.arange(TIME) < np.reshape(options.get("lengths", [TIME] * 4), (4, 1))))
    (_, (y, final)), gradients = weighed(run, **options)(PARAMS, jnp.where(past[..., None], jnp.nan, x), state)
    (_, due), expected = weighed(partial(F.lstm, algorithm="scan"), **options)(PARAMS, x, state)
    assert_close((y, final), due)
    assert_close(gradients, expected)
    assert not np.any(y[past])
    formula = {name: value for name, value in options.items() if name != "remat"}
    want = oracle.batch(oracle.lstm_step, float64(PARAMS), float64(x), tuple(float64(state)), **formula)
    assert_close((y, tuple(final)), want)


@pytest.mark.parametrize("batch", [(), (2, 2), (2, 0)])
def test_any_batch_axes(batch):
    x, lengths = random_x(*batch, TIME, FEATURES), np.random.default_rng(3).integers(0, TIME + 1, batch, np.int32)
    ours, scanned = (
        weighed(partial(F.lstm, algorithm=name), lengths=lengths)(PARAMS, x, PARAMS.zero_state(batch, x.dtype))
        for name in ("cudnn", "scan")
    )
    assert_close(ours, scanned)


def test_no_steps_return_the_initial_state():
    state = random_state(PARAMS, (2,))
    y, final = run(PARAMS, jnp.zeros((2, 0, FEATURES)), state)
    assert y.shape == (2, 0, HIDDEN)
    assert_close(final, state, 0, 0)


def test_new_lengths_are_no_reason_to_compile():
    layer = jax.jit(lambda lengths: run(PARAMS, random_x(2, TIME, FEATURES), lengths=lengths)[0])
    assert not np.any(layer(jnp.array([3, 0]))[0, 3:])
    assert np.all(layer(jnp.array([6, 2]))[1, :2])
    assert layer._cache_size() == 1


def test_it_works_where_a_person_debugs_without_jit():
    with jax.disable_jit():
        y, _ = run(PARAMS, random_x(2, TIME, FEATURES))
    assert_close(y, F.lstm(PARAMS, random_x(2, TIME, FEATURES))[0])


def both(function, *args):
    """What a function of an algorithm gives by "cudnn" and by "scan"."""
    return tuple(jax.jit(partial(function, partial(F.lstm, algorithm=name)))(*args) for name in ("cudnn", "scan"))


def _loss(layer, params, x):
    y, state = layer(params, x, lengths=jnp.array([TIME, 2]))
    return jnp.sum(jnp.sin(y)) + jnp.sum(state.c**2)


X = random_x(2, TIME, FEATURES)


def test_forward_mode_and_second_derivatives():
    def function(layer, params, x, d):
        gradient = jax.grad(partial(_loss, layer), argnums=(0, 1))
        forward = jax.jvp(partial(_loss, layer), (params, x), d)
        over_reverse = jax.jvp(gradient, (params, x), d)
        of_gradient = jax.grad(lambda *args: sum(jnp.sum(a**2) for a in jax.tree.leaves(gradient(*args))))(params, x)
        twice_forward = jax.jvp(lambda *args: jax.jvp(partial(_loss, layer), args, d)[1], (params, x), d)[1]
        return forward, over_reverse, of_gradient, twice_forward

    d = jax.tree.map(lambda a: random_x(*a.shape, seed=a.size), (PARAMS, X))
    ours, scanned = both(function, PARAMS, X, d)
    assert_close(ours, scanned, 1e-4, 1e-4)


def test_vmap_over_sequences_weights_and_gradients():
    many = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a, -a]), PARAMS)
    xs = random_x(3, 2, TIME, FEATURES)

    def function(layer, many, xs):
        loss = partial(_loss, layer)
        params = jax.tree.map(lambda a: a[0], many)
        return (
            jax.grad(lambda params: jnp.sum(jax.vmap(partial(loss, params))(xs)))(params),
            jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(None, 0))(params, xs),
            jax.vmap(jax.value_and_grad(loss))(many, xs),
            jax.vmap(jax.vmap(loss, in_axes=(None, 0)), in_axes=(0, None))(many, xs),
            jax.jacrev(lambda params: layer(params, xs[0])[1].h[:, 0])(params),
            jax.jacfwd(lambda x: layer(params, x)[1].h[:, 0])(xs[0]),
        )

    ours, scanned = both(function, many, xs)
    assert_close(ours, scanned, 1e-4, 1e-4)


def test_both_directions_and_layers_are_calls_one_after_another():
    params = [F.Directions(PARAMS, PARAMS), randomised(F.init_lstm(jax.random.key(1), 2 * HIDDEN, HIDDEN))]
    ours, scanned = both(lambda layer, params, x: F.stack(layer, params, x, lengths=jnp.array([6, 2])), params, X)
    assert_close(ours, scanned)


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
def test_each_device_of_a_shard_map_runs_its_part():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = random_x(4, TIME, FEATURES)

    def gradients(layer, params, x):
        return jax.grad(lambda params, x: jnp.sum(jnp.sin(layer(params, x)[0])), argnums=(0, 1))(params, x)

    specs = P(), P("data")
    split = jax.shard_map(partial(gradients, run), mesh=mesh, in_specs=specs, out_specs=specs)
    of_shards = jax.shard_map(lambda *args: run(*args)[0], mesh=mesh, in_specs=specs, out_specs=P("data"))
    outer = jax.grad(lambda params, x: jnp.sum(jnp.sin(of_shards(params, x))), argnums=(0, 1))
    expected = jax.jit(partial(gradients, F.lstm))(PARAMS, x)
    assert_close(jax.jit(split)(PARAMS, x), expected)
    assert_close(jax.jit(outer)(PARAMS, x), expected)


def test_a_program_for_another_platform_is_refused():
    with pytest.raises(
        NotServedError, match=r"algorithm='cudnn' has no support for the platform of this program, tpu; use"
    ):
        jax.export.export(jax.jit(run), platforms=["tpu"])(PARAMS, X)

    def choice(params, x):
        return jax.lax.platform_dependent(params, x, cuda=run, cpu=run, default=F.lstm)

    jax.export.export(jax.jit(choice), platforms=["tpu"])(PARAMS, X)


def test_arrays_are_laid_out_in_rows_for_cudnn(monkeypatch):
    """As JAX's own lowering does not say."""
    call = Primitive("call")
    call.multiple_results = True
    call.def_abstract_eval(lambda xs, h, c, *_: (xs.update(shape=(*xs.shape[:2], HIDDEN)), h, c))

    def lowered(ctx, *operands):
        types = [mlir.aval_to_ir_type(ctx.module_context, aval) for aval in ctx.avals_out]
        return stablehlo.CustomCallOp(types, operands, call_target_name="cudnn").results

    mlir.register_lowering(call, lowered)
    monkeypatch.setattr(rnn, "lstm_fwd", lambda *args: (call.bind(*args[:5]), (jnp.zeros(7),)))
    jax.clear_caches()
    program = jax.jit(run).trace(PARAMS, X).lower(lowering_platforms=("cuda",)).as_text()
    (line,) = [line for line in program.splitlines() if "@cudnn(" in line]
    wide, flat = "dense<[2, 1, 0]> : tensor<3xindex>", "dense<0> : tensor<1xindex>"
    assert f"operand_layouts = [{', '.join([wide] * 3 + [flat] * 2)}]" in line
    assert f"result_layouts = [{', '.join([wide] * 3)}]" in line


REFUSED = {
    "peephole": (lambda: run(PARAMS._replace(peephole=jnp.ones((3, HIDDEN))), X), "has no support for peephole"),
    "another cell": (
        lambda: F.gru(F.init_gru(jax.random.key(0), FEATURES, HIDDEN), X, algorithm="cudnn"),
        "has no support for this cell, only for an LSTM; use 'scan'",
    ),
    "activation": (lambda: run(PARAMS, X, activation=jnp.sin), "has no support for activations other than tanh"),
    "dtype": (
        lambda: run(*jax.tree.map(lambda a: a.astype(jnp.bfloat16), (PARAMS, X))),
        "has no support for bfloat16, only for float32",
    ),
    "resets": (lambda: run(PARAMS, X, resets=jnp.zeros((2, TIME), bool)), "has no support for resets"),
    "truncate": (lambda: run(PARAMS, X, truncate=2), "has no support for truncate"),
    "features": (
        lambda: run(PARAMS._replace(w_x=jnp.ones((0, 16))), X[..., :0]),
        "has no support for layers without features",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_it_cannot_serve_is_refused(call, message):
    with pytest.raises(NotServedError, match=f"algorithm='cudnn' {message}"):
        call()


def test_operations_of_jax_alone_are_refused():
    with kernels.plain(), pytest.raises(NotServedError, match=r"has no support for `kernels.plain`"):
        run(PARAMS, X)


@pytest.mark.skipif(HERE, reason="a GPU is here")
def test_a_machine_without_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(cudnn_trial, "missing", MISSING)
    with pytest.raises(NotServedError, match=r"algorithm='cudnn' has no NVIDIA GPU here.*; use 'scan', or 'auto'"):
        run(PARAMS, X)


def test_it_is_tried_before_it_is_used(monkeypatch):
    tried = []
    jax.jit(lambda x: tried.append(cudnn_trial.agrees()))(1.0)  # while a program is traced
    assert tried == [True]
    jax.clear_caches()
    monkeypatch.setattr(
        cudnn,
        "_of_cudnn",
        lambda lengths, arrays, precision: OF_CUDNN(lengths, (arrays[0][::-1], *arrays[1:]), precision),
    )
    assert not cudnn_trial.agrees()
    jax.clear_caches()


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", [(5, 33, 17, 24), (64, 100, 128, 256)], ids=str)
@pytest.mark.parametrize(("precision", "tolerance"), [("highest", 2e-5), (None, 2e-2)])
def test_the_library_agrees_with_float32_and_with_its_tf32(sizes, precision, tolerance):
    batch, time, features, hidden = sizes
    params, x = F.init_lstm(jax.random.key(0), features, hidden), random_x(batch, time, features)
    state, lengths = random_state(params, (batch,)), np.random.default_rng(0).integers(0, time + 1, batch)

    def of(name, precision):
        def loss(params, x, state):
            y, final = F.lstm(params, x, state, lengths=lengths, algorithm=name)
            return jnp.mean(y * random_x(*y.shape)) + jnp.mean(final.c), (y, final)

        with jax.default_matmul_precision(precision):
            return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(params, x, state)

    gradients, values = of("cudnn", precision)
    expected, due = of("scan", "highest")
    assert_close(values, due, tolerance, tolerance)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5 * tolerance * np.abs(theirs).max())
