"""Eight devices train as one does, and each holds what it should."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from jaxnn import modules, testing, train
from jaxnn.train.devices import sharding
from tests.train.toys import MLP, ConvNet, Counted, blobs, copy, equal, pictures

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")

PREPROCESS = train.image_preprocess(augmentation=train.augment.random_flip)


class Net(nnx.Module):
    """Our own convolution and pooling, and a dense layer that is large enough to be split."""

    def __init__(self, seed=0, classes=3):
        rngs = nnx.Rngs(seed)
        self.conv = modules.Conv(1, 4, 3, rngs=rngs)
        self.pool = modules.MaxPool(2)
        self.hidden = modules.Dense(24, 256, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = modules.Dense(256, classes, rngs=rngs)

    def __call__(self, x):
        x = self.pool(nnx.relu(self.conv(x)))
        return self.out(self.drop(nnx.relu(self.hidden(x.reshape(len(x), -1)))))


def start(model=None):
    return train.create_state(model or Net(), optax.adam(1e-2), jax.random.key(0))


def fitted(parallel, model=None, loss_fn=None):
    """Two epochs of 21 pictures in batches of 8, so with a short last batch; two sets to evaluate on."""
    return train.fit(
        start(model),
        pictures(21),
        loss_fn or train.losses.classification(),
        test_data=pictures(11, seed=1),
        epochs=2,
        batch_size=8,
        test_batch_size=4,
        penalty=train.losses.l2(1e-4),
        preprocess=PREPROCESS,
        progress=False,
        parallel=parallel,
    )


def assert_same_run(got, expected):
    (state, history), (alone, expected_history) = got, expected
    for record, other in zip(history, expected_history, strict=True):
        for name in record.keys() - {"seconds", "examples_per_second"}:
            np.testing.assert_allclose(record[name], other[name], rtol=2e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def alone():
    return fitted(None)


@pytest.mark.parametrize("shard", [1, 8])
def test_eight_devices_train_as_one_does(alone, shard):
    loss_fn = Counted()
    got = fitted(train.parallel(8, shard=shard), loss_fn=loss_fn)
    assert_same_run(got, alone)
    assert (loss_fn.training, loss_fn.evaluation) == (1, 1)


def test_batch_statistics_and_dropout_are_those_of_the_whole_batch():
    assert_same_run(fitted(train.parallel(8), ConvNet()), fitted(None, ConvNet()))


def test_the_order_of_the_examples_does_not_depend_on_the_devices():
    def step(state, batch, weights):
        state, metrics = inner(state, batch, weights)
        return state, metrics | {"batch": batch}

    def loss_fn(w, batch, key):
        return w[batch], {}

    inner, orders = train.make_step(loss_fn), []
    for parallel in (None, train.parallel(2), train.parallel(8)):
        state, data = train.create_state(jnp.zeros(16), optax.sgd(1.0), jax.random.key(0)), jnp.arange(16)
        if parallel is not None:
            state, data = parallel.state(state), parallel.data(data)
        _, metrics = train.make_epoch(step, batch_size=8, parallel=parallel)(state, data)
        orders.append(metrics["batch"].tolist())
    assert orders[0] == orders[1] == orders[2]


def test_each_device_holds_its_part_of_the_state_before_and_after():
    parallel = train.parallel(8, shard=4)
    state = parallel.state(start())
    specs = jax.tree.map(lambda x: x.sharding.spec, state)
    assert specs.params["hidden"] == {"kernel": P(None, "shard"), "bias": P()}
    assert specs.opt_state[0].mu["hidden"]["kernel"] == P(None, "shard")
    assert state.params["hidden"]["kernel"].addressable_shards[0].data.shape == (24, 64)
    expected = jax.tree.map(lambda x: x.sharding, state)
    epoch = train.make_epoch(
        train.make_step(train.losses.classification(), preprocess=PREPROCESS), batch_size=8, parallel=parallel
    )
    data = parallel.data(pictures(16))
    with testing.record_compilations() as compiled:
        for _ in range(3):
            state, _ = epoch(state, data)
    same = jax.tree.map(lambda x, sharding: x.sharding.is_equivalent_to(sharding, x.ndim), state, expected)
    assert all(jax.tree.leaves(same))
    assert sum("epoch" in name for name in compiled) == 1, compiled


def test_only_gradients_and_metrics_travel():
    """In plain data parallelism nothing of the batch or the data set is gathered, in none of the program's loops."""
    parallel = train.parallel(8)
    step = train.make_step(train.losses.classification(), preprocess=PREPROCESS)
    epoch = train.make_epoch(step, batch_size=16, parallel=parallel)
    program = epoch.lower(parallel.state(start()), parallel.data(pictures(64))).compile().as_text()
    assert "all-reduce(" in program
    assert not any(f"{op}(" in program for op in ("all-gather", "all-to-all", "collective-permute"))


def test_a_step_by_hand_gives_the_metrics_of_one_device():
    parallel = train.parallel(8, shard=8)
    step = train.make_step(train.losses.classification())
    state, batch = start(MLP()), blobs(24)
    placed = parallel.state(copy(state))
    _, expected = step(state, batch)
    after, metrics = parallel.step(step)(placed, parallel.batch(batch))
    assert metrics["loss"] == pytest.approx(float(expected["loss"]), rel=1e-6)
    assert placed.params["hidden"]["kernel"].is_deleted()
    assert int(after.step) == 1


def test_predictions_are_in_order_and_everywhere():
    parallel = train.parallel(8)
    state = train.create_state(jnp.float32(2), optax.sgd(0.1), jax.random.key(0))
    got = train.predict(
        parallel.state(state),
        parallel.data(jnp.arange(21.0)),
        lambda w, x: parallel.replicate(w * x),
        preprocess=parallel.preprocess(None),
        batch_size=8,
    )
    assert got.tolist() == [2.0 * i for i in range(21)]


def test_small_and_odd_arrays_stay_whole():
    parallel = train.parallel(8, shard=8)
    params = {"small": jnp.zeros((8, 8)), "odd": jnp.zeros((81, 81)), "tall": jnp.zeros((160, 81))}
    state = train.create_state(params, optax.adam(1e-2), jax.random.key(0))
    specs = jax.tree.map(lambda s: s.spec, parallel.state_shardings(jax.eval_shape(lambda: state)))
    assert specs.params == {"small": P(), "odd": P(), "tall": P("shard")}
    assert specs.key == specs.step == specs.opt_state[0].count == P()


def test_state_and_data_come_back_as_they_were():
    parallel = train.parallel(8, shard=8)
    state, data = start(), pictures(5)
    assert equal(parallel.state(copy(state)), state)
    assert parallel.data(data).images.dtype == jnp.uint8
    np.testing.assert_array_equal(parallel.data(data).images, data.images)
    assert parallel.rows(16).tolist() == list(range(16))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train.parallel(9), "devices: expected 1 to 8, since JAX sees 8 cpu devices here, got 9"),
        (lambda: train.parallel(0), "devices: expected a whole number of at least 1, got 0"),
        (lambda: train.parallel(8, shard=3), "shard: expected a divisor of the 8 devices, got 3"),
        (lambda: train.parallel(8, shard=0), "shard: expected a whole number of at least 1, got 0"),
        (
            lambda: train.parallel(8).rows(12),
            "batch_size: expected a multiple of the 8 devices, got 12; take 8 or",
        ),
        (lambda: train.parallel(8).rows(4), "take 8, or fewer devices"),
        (
            lambda: train.make_epoch(lambda *_: None, batch_size=20, parallel=train.parallel(8)),
            "batch_size: expected a multiple of the 8 devices, got 20; take 16 or 24",
        ),
    ],
)
def test_what_does_not_fit_is_reported(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_mesh_of_ones_own(monkeypatch):
    monkeypatch.setattr(sharding, "SMALLEST", 16)
    mesh = jax.make_mesh((2, 2, 2), ("replica", "fsdp", "model"), axis_types=(jax.sharding.AxisType.Explicit,) * 3)
    parallel, state = train.devices.Parallel(mesh, shard="fsdp"), start(MLP())
    placed = parallel.state(copy(state))
    assert placed.params["hidden"]["kernel"].sharding.spec == P(None, "fsdp")
    everywhere = train.devices.Parallel(mesh, shard=None).state(copy(state))
    assert everywhere.params["hidden"]["kernel"].is_fully_replicated
    step = train.make_step(train.losses.classification())
    _, metrics = parallel.step(step)(placed, parallel.batch(blobs(16)))
    np.testing.assert_allclose(metrics["loss"], step(state, blobs(16))[1]["loss"], rtol=1e-6)
    with pytest.raises(ValueError, match="shard: expected an axis of the mesh, 'replica' or 'fsdp' or 'model', got"):
        train.devices.Parallel(mesh)


def test_devices_are_counted_by_two():
    assert train.parallel(2).round_up(255) == 256
    assert sharding.parallel(4, shard=2).mesh.shape == {"data": 2, "shard": 2}
