"""Labels that are no class: named before training, NaN where they are traced, and left out where that is asked for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import data, train
from tests.train.losses.test_classification import softmax_oracle
from tests.train.toys import MLP, Batch, Counted, blobs, copy, equal

SMOOTHINGS = [0.0, 0.1]


def start(**options):
    return train.create_state(MLP(**options), optax.sgd(0.1), jax.random.key(0))


def spoiled(value, position=5, n=21, dtype=np.int32):
    batch = blobs(n)
    labels = batch.labels.astype(dtype)
    labels[position] = value
    return batch._replace(labels=labels)


def raises(value, position, classes=3, name="data"):
    told = rf"{name}.labels: expected class numbers 0\.\.{classes - 1}, got {value} at position {position} "
    return pytest.raises(ValueError, match=told)


def ensemble(points, loss_fn=None, **options):
    states = train.ensemble.create(lambda key: MLP(), optax.sgd(0.1), {"seed": [0, 1]})
    loss_fn = loss_fn or train.losses.classification()
    return train.ensemble.fit(states, points, loss_fn, epochs=1, batch_size=8, progress=False, **options)


def fit(points, loss_fn=None, **options):
    options = {"epochs": 1, "batch_size": 8, "progress": False, **options}
    return train.fit(start(), points, loss_fn or train.losses.classification(), **options)


@pytest.mark.parametrize(("value", "dtype"), [(-1, np.int32), (3, np.int64), (255, np.uint8)])
def test_a_label_that_is_no_class_is_named_before_training(value, dtype):
    state, points, loss_fn = start(), spoiled(value, dtype=dtype), train.losses.classification(0.1)
    with raises(value, 5):
        train.fit(state, points, loss_fn, batch_size=8, progress=False)
    with raises(value, 5):
        train.evaluate(state, points, loss_fn, batch_size=8)
    with raises(value, 5, name="test_data"):
        train.fit(state, blobs(21), loss_fn, test_data=points, batch_size=8, progress=False)
    with raises(value, 5):
        train.fit(state, data.Stream(points), loss_fn, batch_size=8, progress=False)
    with raises(value, 5):
        ensemble(points)
    with raises(value, 5, name="test_data"):
        ensemble(blobs(21), test_data=points)
    assert not state.params["out"]["bias"].is_deleted()


def test_labels_are_seen_through_preprocessing_that_leaves_them_alone():
    def doubled(key, batch):
        return batch._replace(images=batch.images * 2)

    def moved(key, batch):
        return Batch(batch.images, batch.labels - 1)

    with raises(3, 5):
        fit(spoiled(3), preprocess=doubled)
    from_one = blobs(21)._replace(labels=blobs(21).labels + 1)
    fit(from_one, preprocess=moved)  # 1 to 3 are classes, after preprocessing
    told = r"the loss became nan in epoch 1, .* labels of the training data are not classes: .* got -1 at position"
    for points in (blobs(21), data.Stream(blobs(21))):
        with pytest.raises(train.loop.NonFiniteLossError, match=told):
            fit(points, preprocess=moved)
    with pytest.raises(train.loop.NonFiniteLossError, match="labels of the training data are not classes"):
        ensemble(blobs(21), preprocess=moved)


def test_inputs_of_a_stream_are_looked_at_after_the_labels():
    points = blobs(21)
    points.images[7, 2] = np.inf
    told = "the training data itself holds NaN or infinity, the first .images in example 7"
    with pytest.raises(train.loop.NonFiniteLossError, match=told):
        fit(data.Stream(points), epochs=2)


@pytest.mark.parametrize("value", [-1, 3])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_traced_labels_that_are_no_class_give_nan_and_no_wrong_gradient(smoothing, value):
    @jax.jit
    def losses(logits, labels):
        return train.losses.classification(smoothing)(lambda x: x, Batch(logits, labels), None)

    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)
    found, metrics = losses(logits, jnp.array([0, value, 2]))
    assert np.isnan(found).tolist() == [False, True, False]
    assert not metrics["accuracy"][1]
    gradient = jax.grad(lambda z: losses(z, jnp.array([0, value, 2]))[0].sum())(logits)
    assert not np.any(gradient[1])
    _, metrics = train.make_step(train.losses.classification(smoothing))(start(), spoiled(value))
    assert np.isnan(metrics["loss"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int32])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_many_classes_and_every_integer_dtype(smoothing, dtype):
    logits = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    labels = np.array([0, 1, 100, 127], dtype)
    losses, _ = train.losses.classification(smoothing, ignore_label=-100)(
        lambda x: x, Batch(jnp.asarray(logits), jnp.asarray(labels)), None
    )
    np.testing.assert_allclose(losses, softmax_oracle(logits, labels, smoothing), rtol=1e-5)


@pytest.mark.parametrize("ignored", [255, -100, 1])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_ignored_labels_are_as_if_the_examples_were_not_there(smoothing, ignored):
    points = blobs(21)
    away = np.isin(np.arange(21), [0, 3, 4, 20]) | (points.labels == ignored)
    kept = jax.tree.map(lambda x: x[~away], points)
    points = Batch(
        np.where(away[:, None], np.nan, points.images).astype(np.float32), np.where(away, ignored, points.labels)
    )
    loss_fn, plain = (
        train.losses.classification(smoothing, ignore_label=ignored),
        train.losses.classification(smoothing),
    )
    state = start()
    stepped, metrics = train.make_step(loss_fn)(copy(state), points._replace(images=np.nan_to_num(points.images)))
    expected, told = train.make_step(plain)(copy(state), kept)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), stepped.params, expected.params)
    for name in told:
        np.testing.assert_allclose(metrics[name], told[name], rtol=1e-5, err_msg=name)
    # In evaluation what is ignored may hold anything.
    for batch_size in (4, 32):
        found = train.evaluate(state, points, loss_fn, batch_size=batch_size)
        for name, value in train.evaluate(state, kept, plain).items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    assert set(found) == {"loss", "accuracy"}


def test_means_of_an_epoch_count_what_is_not_ignored_once():
    """With a learning rate of zero the training loss is that of the set, however the batches fall."""
    points = blobs(21)
    points.labels[:9] = -1
    loss_fn = train.losses.classification(ignore_label=-1)
    state = train.create_state(MLP(), optax.sgd(0.0), jax.random.key(0))
    expected = train.evaluate(state, points, loss_fn)
    for one, options in ((points, {}), (points, {"chunk": 2}), (data.Stream(points), {})):
        after, history = train.fit(copy(state), one, loss_fn, epochs=2, batch_size=2, progress=False, **options)
        assert int(after.step) == 22  # steps of which nothing counts are steps too
        assert [record["step"] for record in history] == [11, 22]
        for name, value in expected.items():
            np.testing.assert_allclose(history[1][f"train_{name}"], value, rtol=1e-5)
        assert equal(after.params, state.params)
    states, histories = ensemble(points, loss_fn, test_data=points)
    assert np.isfinite(histories[0][-1]["train_loss"])
    np.testing.assert_allclose(
        histories[0][-1]["test_loss"],
        train.evaluate(train.ensemble.member(states, 0), points, loss_fn)["loss"],
        rtol=1e-5,
    )


def test_a_batch_of_which_nothing_counts_has_loss_and_gradient_zero():
    step = train.make_step(train.losses.classification(ignore_label=-1))
    points, state = blobs(4)._replace(labels=np.full(4, -1)), start()
    after, metrics = step(copy(state), points)
    assert {name: float(value) for name, value in metrics.items()} == dict.fromkeys(metrics, 0.0)
    assert equal(after.params, state.params)
    _, metrics = step(state, blobs(4), np.zeros(4, np.float32))  # nor where the step's own weights are all zero
    assert float(metrics["loss"]) == 0
    for call in (
        lambda: fit(points),
        lambda: train.evaluate(after, points, train.losses.classification(ignore_label=-1)),
    ):
        with pytest.raises(
            ValueError, match=r"data.labels: expected (at least one that is not ignore_label=-1|class numbers)"
        ):
            call()


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_positions_count_alike_over_a_set(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(10, 6, 4)).astype(np.float32)
    labels = rng.integers(0, 4, (10, 6))
    labels[np.arange(6)[None] >= rng.integers(0, 7, 10)[:, None]] = -100
    labels[4] = -100
    counts = labels != -100
    losses = softmax_oracle(logits[counts], labels[counts], smoothing)
    right = logits[counts].argmax(-1) == labels[counts]

    state = train.create_state({"scale": jnp.float32(1)}, optax.sgd(0.1), jax.random.key(0))
    ours = train.losses.classification(smoothing, ignore_label=-100)

    def loss_fn(model, batch, key):
        return ours(lambda x: model["scale"] * x, batch, key)

    points = Batch(logits, labels)
    found = train.evaluate(state, points, loss_fn, batch_size=4)
    np.testing.assert_allclose(found["loss"], losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], right.mean(), rtol=1e-5)
    _, metrics = train.make_step(loss_fn)(state, points)
    np.testing.assert_allclose(metrics["loss"], losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["examples"], counts.mean(1).sum(), rtol=1e-5)


def test_a_loss_function_of_ones_own_may_say_what_counts():
    def loss_fn(w, batch, key):
        return (w - batch) ** 2, {"value": batch, "examples": batch > 0}

    state = train.create_state(jnp.float32(0), optax.sgd(0.5), jax.random.key(0))
    points = jnp.array([1.0, -5.0, 3.0])
    assert float(train.evaluate(state, points, loss_fn, batch_size=2)["loss"]) == 5
    state, metrics = train.make_step(loss_fn)(state, points)
    assert {name: float(value) for name, value in metrics.items()} == {
        "loss": 5, "value": 2, "examples": 2, "grad_norm": 4,
    }  # fmt: skip
    assert float(state.params) == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(3, dtype=np.float32)[[0, 1]], r"got \(2, 3\) for \(2, 3\); make class numbers of one-hot labels"),
        (np.array([True, False]), "labels: expected integer class numbers, got bool; convert them"),
        (np.array([0.0, 1.0], np.float32), "labels: expected integer class numbers, got float32"),
    ],
)
def test_what_is_no_class_number_at_all_is_reported(labels, message):
    with pytest.raises(ValueError, match=message):
        fit(Batch(blobs(2).images, labels), batch_size=2)


def test_labels_in_a_list_are_no_array():
    points = blobs(3)._replace(labels=[0, 1, 2])
    with pytest.raises(ValueError, match=r"^data: expected arrays .*data\.labels\[0\].*make arrays of lists"):
        train.evaluate(start(), points, train.losses.classification())
    with pytest.raises(ValueError, match=r"^test_data: expected arrays .*test_data\.labels\[0\]"):
        fit(blobs(3), test_data=points)


@pytest.mark.parametrize("value", [True, 1.0, "pad"])
def test_an_ignored_label_is_an_integer(value):
    with pytest.raises(ValueError, match="ignore_label: expected an integer or None, got"):
        train.losses.classification(ignore_label=value)


def test_equal_losses_are_equal_and_the_model_is_traced_once_to_look_at_labels():
    assert (
        train.losses.classification(0.1)
        == train.losses.classification(0.1)
        != train.losses.classification(0.1, ignore_label=0)
    )
    traces = []

    class Seen(MLP):
        def __call__(self, x):
            traces.append(1)
            return super().__call__(x)

    state = train.create_state(Seen(), optax.sgd(0.1), jax.random.key(0))
    for _ in range(3):
        train.evaluate(state, blobs(20), train.losses.classification(), batch_size=5)
    assert len(traces) == 2  # to look, and to evaluate
    assert dataclasses.is_dataclass(train.losses.classification())
    assert Counted().loss_fn == train.losses.classification()
