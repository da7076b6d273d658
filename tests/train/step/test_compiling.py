"""Compiler options of training programs: which, when, and that they reach the compiler."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import processor, train
from jaxnn.kernels.settings import convolutions_by_eigen
from jaxnn.train.step import compiling
from jaxnn.train.step.compiling import Row

YNN = "xla_cpu_experimental_ynn_fusion_type"
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="these options are for CPUs")


@on_cpu
def test_options_are_those_of_the_table_that_processor_and_jaxlib_know(monkeypatch):
    table = (Row("xla_cpu_no_such_option", True), Row("xla_cpu_prefer_vector_width", 512, "avx512f"), Row(YNN, ""))
    monkeypatch.setattr(compiling, "TABLE", table)
    for features, expected in (((), {YNN}), (("avx512f",), {YNN, "xla_cpu_prefer_vector_width"})):
        monkeypatch.setattr(processor, "features", lambda features=features: frozenset(features))
        assert set(train.step.compiler_options()) == expected
    monkeypatch.setenv("XLA_FLAGS", f"--{YNN}=-individual_convolution")  # a person's own stand
    assert YNN not in train.step.compiler_options()


@on_cpu
def test_layers_are_told_what_computes_their_convolutions():
    told = []

    @train.jit
    def function(x):
        told.append(convolutions_by_eigen())
        return x

    function(1.0)
    assert function(1.0) == 1.0
    assert told == [True]
    assert not train.jit(lambda: jnp.bool_(convolutions_by_eigen()), compiler_options={})()
    assert not convolutions_by_eigen()


def test_inside_another_program_it_is_a_plain_jitted_function():
    double = train.jit(lambda x: 2 * x)
    ones = jnp.ones(2)
    for result in (
        jax.jit(lambda x: double(x))(ones),
        jax.jit(lambda: double(np.ones(2, np.float32)))(),
        jax.vmap(double)(ones),
        jax.lax.scan(lambda c, _: (double(c), None), ones, length=1)[0],
    ):
        np.testing.assert_array_equal(result, [2, 2])


def test_around_another_jitted_function_its_own_options_hold():
    inner = train.jit(lambda x: x + 1, compiler_options={})
    outer = train.jit(inner, compiler_options={"xla_cpu_enable_fast_math": False}, donate_argnums=0)
    given = jnp.ones(4)
    assert outer(given).tolist() == [2, 2, 2, 2]
    assert given.is_deleted()
    assert outer.compiler_options == {"xla_cpu_enable_fast_math": False}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"xla_no_such_option": 1}, "xla_no_such_option=1"), ({"xla_cpu_max_isa": None}, "by name"), ("fast", "'fast'")],
)
def test_a_wrong_option_is_named_before_anything_is_compiled(options, message):
    with pytest.raises(ValueError, match=f"compiler_options: expected .*{message}"):
        train.jit(lambda x: x, compiler_options=options)(1.0)


def loss_fn(w, batch, key):
    x, y = batch
    return (x @ w - y) ** 2, {}


def outputs(w, batch):
    return batch[0] @ w


def stacked(state):
    return jax.tree.map(lambda x: x[None], state)


def segments(step, state, data):
    """The parameters after training by `Segments`, which compiles with the options of its step."""
    opt_state = train.optimizer("sgd").init(state.params)
    state = dataclasses.replace(state, tx=train.optimizer("sgd"), opt_state=opt_state)
    made = train.Generated(lambda key: data, steps=1)
    program = train.loop.Segments(step, made, train.loop.Budget(steps=1), jnp.ones_like, segment=1)
    return train.loop.drive(program, state)[0].params


@pytest.mark.parametrize("options", [None, {}, {"xla_cpu_enable_fast_math": False}])
def test_steps_epochs_and_ensembles_compile_once_with_their_options(options, monkeypatch):
    used = []
    monkeypatch.setattr(compiling, "effective_options", lambda given: used.append(given) or {})
    traces = []

    def counted(w, batch, key):
        traces.append(None)
        return loss_fn(w, batch, key)

    data = jnp.eye(4)[:, :2], jnp.arange(4.0)

    def state():
        return train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0))

    step = train.make_step(counted, compiler_options=options)
    one, _ = step(state(), data)
    one, _ = step(one, data)
    assert len(traces) == 1
    epoch = train.make_epoch(step, batch_size=2)
    epoch(state(), data)
    assert used == [options, options]
    assert epoch.lower(state(), data).compile() is not None
    assert step.eval_shape(state(), data)[1]["loss"].shape == ()
    members = train.ensemble.create(lambda key: jnp.zeros(2), optax.sgd(0.1), {"seed": range(2)})
    train.ensemble.make(epoch)(members, data)
    assert used == [options] * 3


@pytest.mark.parametrize(
    "call",
    [
        lambda state, data, **options: train.evaluate(state, data, loss_fn, **options),
        lambda state, data, **options: train.predict(state, data, outputs, **options),
        lambda state, data, **options: train.fit(state, data, loss_fn, epochs=1, progress=False, **options)[1],
        lambda state, data, **options: train.ensemble.predict(stacked(state), data, outputs, **options),
        lambda state, data, **options: segments(train.make_step(loss_fn, **options), state, data),
        lambda state, data, **options: bool(train.loop.dry_run(state, data, loss_fn, **options)),
    ],
    ids=["evaluate", "predict", "fit", "ensemble.predict", "Segments", "dry_run"],
)
def test_options_reach_the_compiler_and_change_no_result(call):
    data = jnp.eye(4)[:, :2], jnp.arange(4.0)
    state = train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match="xla_no_such_option"):
        call(state, data, compiler_options={"xla_no_such_option": 1})
    plain, given = (call(jax.tree.map(jnp.copy, state), data, **o) for o in ({}, {"compiler_options": {}}))
    timeless = {"seconds", "examples_per_second"}
    for one, other in zip(*(jax.tree.leaves_with_path(result) for result in (plain, given)), strict=True):
        assert str(one[0]) == str(other[0])
        if not any(name in str(one[0]) for name in timeless):
            np.testing.assert_allclose(one[1], other[1], rtol=1e-6)
