"""Batches of every form: pairs, dictionaries by key, objects by name."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import data, train
from jaxnn.train.losses import fields
from tests.train.toys import MLP, Batch, blobs, pictures

XY = collections.namedtuple("XY", "x y weight")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Record:
    image: jax.Array
    label: jax.Array


FORMS = {
    "tuple": lambda x, y: (x, y),
    "list": lambda x, y: [x, y],
    "dict": lambda x, y: {"image": x, "label": y, "id": np.arange(len(y))},
    "ordered dict": lambda x, y: collections.OrderedDict(y=y, x=x),
    "NamedTuple": lambda x, y: XY(x, y, np.ones(len(y), np.float32)),
    "dataclass": Record,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_batch_gives_the_same_numbers(form):
    """Preprocessing, step and evaluation; the batch keeps its kind and the caller's stays whole."""
    stored, loss_fn = pictures(6), train.losses.classification()
    ours, preprocess = form(*stored), train.image_preprocess(mean=0.4, augmentation=train.augment.random_flip)

    def flat(key, batch):
        batch = preprocess(key, batch)
        place = fields.find(batch, "inputs")
        return fields.replace(batch, place, fields.get(batch, place).reshape(6, -1))

    made = flat(jax.random.key(0), ours)
    assert jax.tree.structure(made) == jax.tree.structure(ours)
    assert fields.get(ours, fields.find(ours, "inputs")) is stored.images
    expected = flat(jax.random.key(0), stored)
    model = MLP(features=30)
    np.testing.assert_array_equal(loss_fn(model, made, None)[0], loss_fn(model, expected, None)[0])


@pytest.mark.parametrize(
    ("form", "spelled"),
    [("tuple", r"\[1\]"), ("dict", r"\['label'\]"), ("NamedTuple", r"\.y"), ("dataclass", ".label")],
)
def test_a_wrong_label_is_named_as_the_batch_writes_it(form, spelled):
    points = blobs(21)
    points.labels[5] = 3
    points = FORMS[form](*points)
    state = train.create_state(MLP(), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(
        ValueError, match=rf"data{spelled}: expected class numbers 0\.\.2, got 3 at position 5 \(1 of 21\)"
    ):
        train.evaluate(state, points, train.losses.classification())
    if form in ("tuple", "dict"):
        with pytest.raises(ValueError, match=r"expected class numbers 0\.\.2, got 3 at position 5 "):
            train.fit(state, data.Stream(points), train.losses.classification(), epochs=1, batch_size=8, progress=False)


def test_names_of_ones_own_and_a_model_that_takes_more():
    points = {"pixels": blobs(8).images, "scale": np.full(8, 2, np.float32), "fine": blobs(8).labels}
    loss_fn = train.losses.classification(
        labels="fine", apply_fn=lambda model, batch: model(batch["pixels"] * batch["scale"][:, None])
    )
    expected = train.losses.classification()(MLP(), Batch(2 * points["pixels"], points["fine"]), None)
    np.testing.assert_array_equal(loss_fn(MLP(), points, None)[0], expected[0])
    triple = blobs(8).images, np.zeros(8, np.float32), blobs(8).labels
    loss_fn = train.losses.classification(inputs=0, labels=2)
    np.testing.assert_array_equal(
        loss_fn(MLP(), triple, None)[0], train.losses.classification()(MLP(), blobs(8), None)[0]
    )
    params = {"w": jnp.ones((6, 3))}
    functional = train.losses.classification(apply_fn=lambda params, batch: batch[0] @ params["w"])
    state = train.create_state(params, optax.sgd(0.1), jax.random.key(0))
    np.testing.assert_allclose(train.evaluate(state, tuple(blobs(8)), functional)["loss"], np.log(3), rtol=1e-5)


def test_what_only_preprocessing_can_read_is_left_to_it():
    def unpacked(key, batch):
        return {"x": batch[:, :6], "y": batch[:, 6].astype(jnp.int32)}

    packed = np.column_stack([blobs(8).images, blobs(8).labels.astype(np.float32)])
    state = train.create_state(MLP(), optax.sgd(0.1), jax.random.key(0))
    loss_fn = train.losses.classification()
    found = train.evaluate(state, packed, loss_fn, preprocess=unpacked)
    np.testing.assert_allclose(found["loss"], train.evaluate(state, tuple(blobs(8)), loss_fn)["loss"], rtol=1e-6)


X, Y = np.zeros((4, 6), np.float32), np.zeros(4, np.int32)


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        (
            {"image": X, "x": X, "y": Y},
            {},
            r"batch: expected the inputs .* got 'image', 'x'; say which with inputs='image'",
        ),
        ({"x": X, "y": Y, "label": Y}, {}, r"got 'label', 'y'; say which with labels='label'"),
        (
            {"x": X, "class": Y},
            {},
            r"expected the labels under .* got a dictionary with the keys 'x', 'class'; say which",
        ),
        ({"x": X, "class": Y}, {"labels": "klass"}, r"labels: expected a dictionary with the keys .*, got 'klass'"),
        (
            (X, Y, Y),
            {},
            r"batch: expected a pair \(inputs, targets\), got a tuple of 3; give the position with labels=",
        ),
        ((X, Y), {"labels": 2}, r"labels: expected a tuple of 2, got 2"),
        (X, {}, r"expected the labels under one of .* got one array of shape \(4, 6\)"),
        (XY(X, Y, Y), {"inputs": "image"}, r"inputs: expected a XY with the names 'x', 'y', 'weight', got 'image'"),
    ],
)
def test_what_a_batch_does_not_say_is_asked_for(batch, options, message):
    state = train.create_state(MLP(), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        train.evaluate(state, batch, train.losses.classification(**options))


def test_outputs_that_are_no_array_and_models_that_are_no_function_are_reported():
    for model, message in (
        (lambda x: (x, x), "model: expected one array of outputs, got a tuple; choose the array with apply_fn"),
        (lambda x: jnp.ones((4, 2), jnp.int32), "model: expected floating-point outputs, got int32"),
        (
            {"w": X},
            r"model: expected a module that is called with the inputs, got a dict; .* apply_fn=lambda params, batch",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            train.losses.classification()(model, (X, Y), None)


def test_a_lost_loss_of_ones_own_function_points_to_the_labels_of_a_pair():
    def loss_fn(model, batch, key):
        return jnp.log(jnp.minimum(model(batch[0])[:, 0], -1.0)), {}

    state = train.create_state(MLP(), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(train.loop.NonFiniteLossError, match=r"see first that \[1\], from 0 to 2, are classes"):
        train.fit(state, tuple(blobs(8)), loss_fn, epochs=1, batch_size=8, progress=False)


def test_images_alone_are_a_batch():
    images = jnp.full((2, 3, 3, 1), 255, jnp.uint8)
    np.testing.assert_allclose(train.image_preprocess()(None, images), np.ones((2, 3, 3, 1), np.float32), rtol=1e-6)
    with pytest.raises(ValueError, match=r"images: expected uint8 from 0 to 255, or floats, got int32; convert them"):
        train.image_preprocess(mean=0.5, std=0.25)(None, images.astype(jnp.int32))  # mean and std would be 0
