"""An ensemble is what its members are alone: for every layout, to rounding, and by one program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import models, testing, train
from jaxnn.inspect.memory import bytes_free, bytes_needed
from jaxnn.train.ensemble.program import Layout
from tests.train.toys import MLP, ConvNet, Counted, blobs, copy, equal, pictures, quadratic

RATES, SEEDS = [1e-3, 1e-2, 3e-2, 1e-3, 1e-2], [0, 1, 2, 3, 0]
TABLE = {"learning_rate": RATES, "seed": SEEDS}
ADAM = train.optimizer("adam", 0.5, steps=100)
LOSS = train.losses.classification()
MLP_EPOCH = train.make_epoch(train.make_step(LOSS), batch_size=8)
FLIPPED = train.image_preprocess(augmentation=train.augment.random_flip)
CONV_EPOCH = train.make_epoch(train.make_step(LOSS, preprocess=FLIPPED), batch_size=8)
POINTS = blobs(20)


def small_conv_net(key):
    """Of this library's layers."""
    return models.Cifar10Net((6, 5, 1), filters=(2, 3), hidden=4, classes=3, padding="SAME", rngs=nnx.Rngs(key))


def alone(init, i, epoch, data, epochs=2):
    """A member, trained as the only one."""
    key = jax.random.key(SEEDS[i])
    state = train.create_state(init(key), ADAM, key)
    hyperparams = state.opt_state.hyperparams | {"learning_rate": jnp.float32(RATES[i])}
    state = dataclasses.replace(state, opt_state=state.opt_state._replace(hyperparams=hyperparams))
    for _ in range(epochs):
        state, metrics = epoch(state, data)
    return state, metrics


def trained(init, epoch, data, *, table=TABLE, epochs=2, **options):
    ensemble = train.ensemble.make(epoch, **options)
    states = train.ensemble.create(init, ADAM, table)
    for _ in range(epochs):
        states, metrics = ensemble(states, data)
    return states, metrics


def assert_same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-6), *map(_floats, (a, b)))


def _floats(tree):
    leaves = jax.tree.leaves(tree)
    return [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves]


@pytest.fixture(scope="module")
def mlps_alone():
    return [alone(MLP, i, MLP_EPOCH, POINTS) for i in range(5)]


several_devices = pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")

LAYOUTS = {
    "all at once": (1, None, "5 members"),
    "chunks of 2": (1, 2, "5 members in 3 chunks of 2"),
    "one by one": (1, 1, "5 members in 5 chunks of 1"),
    "a device each": (8, None, "5 members over 5 devices"),
    "unequal parts": (2, None, "5 members over 2 devices"),
    "chunks on devices": (2, 2, "5 members over 2 devices in 2 chunks of 2"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_member_equals_the_run_alone(layout, mlps_alone):
    devices, chunk, text = LAYOUTS[layout]
    if devices > jax.device_count():
        pytest.skip(f"needs {devices} devices")
    options = {"devices": jax.devices()[:devices], "members_per_chunk": chunk}
    states, metrics = trained(MLP, MLP_EPOCH, POINTS, **options)
    assert str(train.ensemble.make(MLP_EPOCH, **options).prepare(states, POINTS)) == text
    for i, (state, expected) in enumerate(mlps_alone):
        assert_same(train.ensemble.member(states, i), state)
        assert_same({name: values[i] for name, values in metrics.items()}, expected)


@pytest.mark.parametrize(("init", "chunk"), [(ConvNet, None), (small_conv_net, None), (small_conv_net, 3)])
def test_convolutional_members_equal_the_run_alone(init, chunk):
    """With convolution, pooling, batch normalisation, dropout and augmentation."""
    data = pictures(13)
    states, _ = trained(init, CONV_EPOCH, data, devices=jax.devices()[:1], members_per_chunk=chunk)
    for i in (0, 2, 4):
        state, _ = alone(init, i, CONV_EPOCH, data)
        assert_same(train.ensemble.member(states, i), state)


def test_members_start_as_they_would_alone():
    states = train.ensemble.create(ConvNet, train.optimizer("adamw", steps=10), TABLE | {"weight_decay": [0.1] * 5})
    state = train.create_state(ConvNet(jax.random.key(2)), train.optimizer("adamw", steps=10), jax.random.key(2))
    one = train.ensemble.member(states, 2)
    assert_same(one.params, state.params)
    assert equal((one.key, one.step, one.variables), (state.key, state.step, state.variables))
    np.testing.assert_allclose(states.opt_state.hyperparams["learning_rate"], RATES)
    np.testing.assert_allclose(states.opt_state.hyperparams["weight_decay"], 0.1)


def test_a_hyperparameter_that_was_an_integer_takes_fractions():
    """Optax keeps `weight_decay=0` as an integer, in which 0.3 would be 0."""
    tx = optax.inject_hyperparams(optax.adamw)(learning_rate=1, weight_decay=0)
    table = {"seed": [0, 0, 0], "weight_decay": [0, 0.3, 0.5], "learning_rate": [1, 2, 3]}
    states = train.ensemble.create(lambda key: jnp.ones(2), tx, table)
    step = train.ensemble.make(train.make_step(lambda w, batch, key: (batch * w.sum(), {})))
    decayed = step(states, jnp.zeros(1))[0].params  # of a gradient of 0
    np.testing.assert_allclose(decayed, np.repeat([[1], [1 - 2 * 0.3], [1 - 3 * 0.5]], 2, 1), rtol=1e-6)


def test_one_trace_and_one_compile_whatever_the_hyperparameters():
    loss_fn = Counted()
    ensemble = train.ensemble.make(train.make_epoch(train.make_step(loss_fn), batch_size=8))
    with testing.record_compilations() as compiled:
        for rates in (RATES, RATES[::-1]):
            states = train.ensemble.create(MLP, ADAM, {"learning_rate": rates, "seed": SEEDS})
            ensemble.prepare(states, POINTS)
            for _ in range(2):
                states, _ = ensemble(states, POINTS)
    assert loss_fn.training == 1
    assert sum("_run" in name for name in compiled) == 1, compiled


def test_a_diverged_member_leaves_the_others_as_they_are():
    options = {"devices": jax.devices()[:1]}
    sane, _ = trained(MLP, MLP_EPOCH, POINTS, **options)
    mixed, metrics = trained(MLP, MLP_EPOCH, POINTS, table=TABLE | {"learning_rate": [*RATES[:2], 1e38, *RATES[3:]]})
    assert not np.isfinite(metrics["loss"][2]).all()
    for i in (0, 1, 3, 4):
        assert_same(train.ensemble.member(mixed, i).params, train.ensemble.member(sane, i).params)
        assert np.isfinite(metrics["loss"][i]).all()


def test_convolutions_of_members_are_not_grouped_inside_the_epoch():
    """On CPU XLA computes grouped convolutions, which `vmap` of kernels makes, slowly."""
    epoch = train.make_epoch(train.make_step(LOSS, preprocess=train.image_preprocess()), batch_size=4)
    ensemble = train.ensemble.make(epoch, devices=jax.devices()[:1])
    states = train.ensemble.create(small_conv_net, ADAM, {"seed": range(3)})
    jaxpr = str(jax.make_jaxpr(ensemble)(states, pictures(8)))
    for name in ("conv", "conv_dx", "conv_dw"):
        assert f" {name}[" in jaxpr
    assert "members=True" in jaxpr
    assert "members=False" not in jaxpr
    assert "feature_group_count = 3" not in jax.jit(ensemble).lower(states, pictures(8)).as_text()


@several_devices
def test_devices_have_nothing_to_tell_each_other():
    ensemble = train.ensemble.make(MLP_EPOCH, devices=jax.devices()[:2])
    states = train.ensemble.create(MLP, ADAM, {"seed": range(4)})
    ops = testing.compiled_ops(jax.jit(ensemble), *ensemble.put(states, POINTS))
    assert not [name for name in ops if name.startswith(("all-", "collective", "reduce-scatter"))]
    states, _ = ensemble(*ensemble.put(states, POINTS))
    assert len(states.step.sharding.device_set) == 2
    assert states.step.addressable_shards[0].data.shape == (2,)


def test_the_states_are_donated():
    ensemble = train.ensemble.make(MLP_EPOCH, devices=jax.devices()[:1])
    states, data = ensemble.put(train.ensemble.create(MLP, ADAM, {"seed": range(3)}), POINTS)
    ensemble(states, data)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(states.params))


def test_chunks_follow_from_the_memory():
    """The members' own temporaries are much of what the program needs."""
    data = blobs(256)
    epoch = train.make_epoch(train.make_step(LOSS), batch_size=256)
    states = train.ensemble.create(MLP, ADAM, {"seed": range(6)})

    def ensemble(memory):
        return train.ensemble.make(epoch, devices=jax.devices()[:1], memory=memory)

    def needed(layout):
        program = train.ensemble.make(epoch, devices=jax.devices()[:1], members_per_chunk=layout.members_per_chunk)
        return bytes_needed(jax.jit(program, donate_argnums=0).lower(states, data).compile())

    whole = ensemble(1 << 40).prepare(states, data)
    assert whole == Layout(6, 1, 1, 6)
    less = needed(whole) * 2 // 3
    chunked = ensemble(less).prepare(states, data)
    assert chunked.chunks > 1
    assert needed(chunked) <= less
    with pytest.raises(
        ValueError, match=r"memory: expected at least .* for one member at a time, got 10 B.*smaller batches"
    ):
        ensemble(10).prepare(states, data)


@several_devices
def test_there_is_memory_left():
    one, two = bytes_free(jax.devices()[:1]), bytes_free(jax.devices()[:2])
    assert 0 < two < one < 1 << 60


@pytest.mark.parametrize(
    ("members", "devices", "most", "expected"),
    [
        (48, 1, 48, (1, 1, 48)),
        (48, 1, 20, (1, 3, 16)),
        (17, 1, 16, (1, 2, 9)),
        (16, 8, 99, (8, 1, 2)),
        (10, 8, 99, (5, 1, 2)),
        (3, 8, 99, (3, 1, 1)),
        (17, 8, 2, (6, 2, 2)),
        (1, 8, 1, (1, 1, 1)),
    ],
)
def test_members_lie_in_equal_parts(members, devices, most, expected):
    layout = Layout.of(members, devices, most)
    assert (layout.devices, layout.chunks, layout.members_per_chunk) == expected
    assert layout.devices * layout.chunks * layout.members_per_chunk >= members


def test_an_ensemble_is_evaluated_by_one_program_too():
    states = train.ensemble.create(MLP, ADAM, {"seed": range(3)})
    expected = train.evaluate(train.ensemble.member(states, 2), POINTS, LOSS)
    evaluate = train.ensemble.make(lambda state, data: (state, train.evaluate(state, data, LOSS)))
    states, metrics = evaluate(states, POINTS)
    np.testing.assert_allclose(metrics["loss"][2], expected["loss"], rtol=1e-5)


def test_a_program_is_reused_under_the_same_settings_of_jax_only():
    traces = []

    def outputs(w, batch):
        traces.append(0)
        return batch @ w

    states = train.ensemble.create(lambda key: jnp.ones(3), optax.sgd(0.1), {"seed": range(2)})
    for _ in range(2):
        made = train.ensemble.predict(states, jnp.ones((4, 3)), outputs)
    assert made.shape == (2, 4)
    assert len(traces) == 1
    with jax.default_matmul_precision("highest"):
        train.ensemble.predict(states, jnp.ones((4, 3)), outputs)
    assert len(traces) == 2


def test_it_serves_inside_a_program_of_ones_own():
    ensemble = train.ensemble.make(MLP_EPOCH, devices=jax.devices()[:1])

    @jax.jit
    def twice(states, data):
        states, _ = ensemble(states, data)
        return ensemble(states, data)[0]

    expected, _ = trained(MLP, MLP_EPOCH, POINTS, devices=jax.devices()[:1])
    assert_same(twice(train.ensemble.create(MLP, ADAM, TABLE), POINTS), expected)


def test_a_step_of_a_functional_model():
    data = np.eye(2, dtype=np.float32), np.array([1.0, 3.0], np.float32)
    sgd = optax.chain(optax.clip(10.0), optax.inject_hyperparams(optax.sgd)(learning_rate=0.1))
    step = train.ensemble.make(train.make_step(quadratic))
    states = train.ensemble.create(lambda key: jnp.zeros(2), sgd, {"seed": [0, 0], "learning_rate": [0.1, 0.2]})
    states, metrics = step(states, data)
    np.testing.assert_allclose(states.params, [[0.1, 0.3], [0.2, 0.6]], rtol=1e-6)
    assert metrics["loss"].shape == (2,)


def test_a_member_is_an_ordinary_state():
    states = train.ensemble.create(MLP, ADAM, TABLE)
    kept = copy(states)
    state = train.ensemble.member(states, -1)
    assert isinstance(state.model(), MLP)
    state, _ = MLP_EPOCH(state, POINTS)
    assert equal(states, kept)


@pytest.mark.parametrize(
    ("tx", "table", "message"),
    [
        (ADAM, {"learning_rate": [0.1]}, "expected a column 'seed', got learning_rate"),
        (ADAM, {}, "expected a column 'seed', got no column"),
        (ADAM, {"seed": []}, "columns of one length, at least 1"),
        (ADAM, {"seed": [0, 1], "learning_rate": [0.1]}, "columns of one length, at least 1"),
        (ADAM, {"seed": [0.5]}, "expected seed to hold integers"),
        (ADAM, {"seed": [-1]}, r"expected seed to hold integers from 0 to 2\*\*32 - 1, got \[-1\]"),
        (ADAM, {"seed": [0, 2**32]}, r"expected seed to hold integers from 0 to 2\*\*32 - 1"),  # the key of seed 0
        (ADAM, {"seed": [0], "weight_decay": [2**32]}, "expected weight_decay to hold finite numbers up to 2.1e.09"),
        (ADAM, {"seed": [0], "learning_rate": [0.0]}, "expected learning_rate to hold positive numbers, got 0.0"),
        (ADAM, {"seed": [0], "learning_rate": [np.nan]}, "expected learning_rate to hold positive numbers, got nan"),
        (
            ADAM,
            {"seed": [0], "weight_decay": [np.inf]},
            "expected weight_decay to hold finite numbers up to .*, got inf",
        ),
        (ADAM, {"seed": [0], "learning_rate": ["fast"]}, "expected learning_rate to hold numbers, one per member"),
        (
            ADAM,
            {"seed": [0], "momentum": [0.9]},
            "expected hyper-parameters of tx, learning_rate, weight_decay, got momentum",
        ),
        (
            optax.adam(1e-3),
            {"seed": [0], "learning_rate": [0.1]},
            r"expected tx with injected hyper-parameters, .*use train\.optimizer",
        ),
        (
            optax.chain(*[optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)] * 2),
            {"seed": [0], "learning_rate": [0.1]},
            "that one part of tx has, got learning_rate, which 2 parts have; give each another name",
        ),
        (
            optax.inject_hyperparams(optax.sgd)(learning_rate=optax.constant_schedule(0.1)),
            {"seed": [0], "learning_rate": [0.1]},
            "that tx does not schedule, got learning_rate",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_named(tx, table, message):
    with pytest.raises(ValueError, match=f"members: .*{message}"):
        train.ensemble.create(MLP, tx, table)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train.ensemble.grid(), "axes: expected at least one"),
        (lambda: train.ensemble.grid(seed=range(0)), "seed: expected at least one value"),
        (lambda: train.ensemble.grid(seed=3), r"seed: expected the values of a column, got 3; write \[3\]"),
        (lambda: train.ensemble.make(MLP_EPOCH, members_per_chunk=0), "members_per_chunk: expected a whole number"),
        (lambda: train.ensemble.make(MLP_EPOCH, memory=0), "memory: expected a whole number"),
        (lambda: train.ensemble.make(MLP_EPOCH, devices=[]), "devices: expected at least one"),
        (
            lambda: train.ensemble.make(MLP_EPOCH)(train.create_state(MLP(), ADAM, jax.random.key(0)), POINTS),
            "states: expected stacked ones, as train.ensemble.create makes",
        ),
        (
            lambda: train.ensemble.make(lambda state: state)(train.ensemble.create(MLP, ADAM, {"seed": [0]})),
            r"function: expected \(state, results\) from it, got a TrainState",
        ),
        (
            lambda: train.ensemble.member(train.ensemble.create(MLP, ADAM, {"seed": [0]}), 1),
            "index: expected a number of the 1 members, from 0, got 1",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_table_is_every_combination():
    table = train.ensemble.grid(learning_rate=[0.1, 0.2], seed=range(2))
    assert list(zip(table["learning_rate"], table["seed"], strict=True)) == [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
