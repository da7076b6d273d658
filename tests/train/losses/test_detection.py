"""The losses of a detector, against float64 loops in NumPy and their finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import data, train
from jaxnn.functional import BoxMaps, encode_boxes

H, W, KINDS, STRIDE = 3, 4, 2, 4


def example(seed=0, batch=3, most=2):
    """Maps, and pictures with boxes: the last has none."""
    rng = np.random.default_rng(seed)
    maps = [rng.normal(0, 2, (batch, H, W, n)) for n in (KINDS, 2, 2)]
    low = rng.uniform(0, (10, 6), (batch, most, 2))
    boxes = np.concatenate([low, low + rng.uniform(2, (6, 6), (batch, most, 2))], axis=-1)
    classes = rng.integers(0, KINDS, (batch, most))
    classes[0, 1] = -1
    classes[-1] = -1
    images = np.zeros((batch, H * STRIDE, W * STRIDE, 1), np.float32)
    return maps, data.Boxed(images, boxes, classes.astype(np.int32), np.zeros((batch, most), bool))


def oracle(maps, batch, heat, size_weight=0.1, offset_weight=1.0, alpha=2.0, beta=4.0):
    """The losses `(batch,)`, cell by cell and box by box."""
    logits, size, offset = maps
    losses = np.zeros(len(logits))
    for n in range(len(losses)):
        centres, total = 0, 0.0
        for at in np.ndindex(H, W, KINDS):
            p, y = 1 / (1 + np.exp(-logits[n][at])), heat[n][at]
            if y == 1:
                centres, total = centres + 1, total - (1 - p) ** alpha * np.log(p)
            else:
                total -= (1 - y) ** beta * p**alpha * np.log(1 - p)
        losses[n] = total / max(centres, 1)
        present = [k for k in range(batch.classes.shape[1]) if batch.classes[n, k] >= 0]
        for k in present:
            left, top, right, bottom = batch.boxes[n, k] / STRIDE
            x, y = (left + right) / 2, (top + bottom) / 2
            cell = n, int(y), int(x)
            losses[n] += size_weight * np.abs(size[cell] - [right - left, bottom - top]).sum() / len(present)
            losses[n] += offset_weight * np.abs(offset[cell] - [x - int(x), y - int(y)]).sum() / len(present)
    return losses


@pytest.mark.parametrize("options", [{}, {"alpha": 1.0, "beta": 2.0, "size_weight": 0.5, "offset_weight": 0.0}])
def test_losses_and_gradients_are_those_of_numpy(options):
    maps, batch = example()
    with jax.enable_x64(True):
        heat = np.asarray(encode_boxes(jnp.asarray(batch.boxes), batch.classes, (H, W, KINDS), stride=STRIDE).heat)
        loss_fn = train.losses.detection(**options)
        both = jax.jit(lambda maps: jax.vjp(lambda maps: loss_fn(lambda _: maps, batch, None)[0], maps))
        losses, pull = both([jnp.asarray(each) for each in maps])
        np.testing.assert_allclose(losses, oracle(maps, batch, heat, **options), rtol=1e-9)
        (gradients,) = pull(jnp.ones(3))
    step, rng = 1e-6, np.random.default_rng(1)
    for part, gradient in enumerate(gradients):
        direction = rng.normal(size=maps[part].shape)
        ends = []
        for sign in (1, -1):
            moved = [each + sign * step * direction * (n == part) for n, each in enumerate(maps)]
            ends.append(oracle(moved, batch, heat, **options).sum())
        assert np.sum(np.asarray(gradient) * direction) == pytest.approx(
            (ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-8
        )


def test_the_heat_part_is_the_heatmap_loss_in_float32_at_least():
    maps, batch = example()
    maps = [jnp.asarray(each, jnp.bfloat16) for each in maps]
    losses, parts = train.losses.detection()(
        lambda _: BoxMaps(*maps), batch._replace(boxes=jnp.float32(batch.boxes)), None
    )
    heat = encode_boxes(jnp.float32(batch.boxes), batch.classes, (H, W, KINDS), stride=STRIDE).heat
    np.testing.assert_array_equal(parts["heat"], train.losses.heatmap(maps[0], heat))
    assert losses.dtype == parts["heat"].dtype == jnp.float32
    np.testing.assert_allclose(losses, parts["heat"] + 0.1 * parts["size"] + parts["offset"], rtol=1e-6)


def test_certain_logits_give_finite_losses_and_gradients():
    heat = jnp.zeros((2, 2, 1)).at[0, 0].set(1.0)
    for sign in (-1, 1):
        value, gradient = jax.value_and_grad(train.losses.heatmap)(sign * jnp.where(heat == 1, 1e4, -1e4), heat)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_infinite_logits_have_the_limits_of_value_and_gradient(alpha):
    heat, logits = jnp.array([1.0, 1.0, 0.0, 0.5]), jnp.array([jnp.inf, -jnp.inf, jnp.inf, -jnp.inf])
    loss = jax.value_and_grad(lambda z, y: train.losses.heatmap(z.reshape(1, 1, 1), y.reshape(1, 1, 1), alpha=alpha))
    values, gradients = jax.vmap(loss)(logits, heat)
    assert values.tolist() == [0, np.inf, np.inf, 0]
    assert gradients.tolist() == [0, -1, 1, 0]


def test_crowds_and_pictures_without_boxes_have_no_box_losses():
    maps, batch = example()
    model = lambda _: [jnp.float32(each) for each in maps]  # noqa: E731
    fields = {name: jnp.asarray(value) for name, value in batch._asdict().items() if name != "crowd"}
    fields["boxes"] = jnp.float32(batch.boxes)
    loss_fn = train.losses.detection()
    plain, parts = loss_fn(model, fields, None)
    assert parts["size"][-1] == parts["offset"][-1] == 0
    crowd = np.zeros(batch.classes.shape, bool)
    crowd[1, 0] = True
    crowded = loss_fn(model, fields | {"crowd": crowd}, None)[0]
    left_out = loss_fn(model, fields | {"classes": jnp.where(crowd, -1, batch.classes)}, None)[0]
    np.testing.assert_array_equal(crowded, left_out)
    assert crowded[1] != plain[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train.losses.detection(alpha=-1.0), "alpha: expected a finite number that is not negative, got -1.0"),
        (lambda: train.losses.detection(size_weight=np.nan), "size_weight: expected a finite number"),
        (lambda: train.losses.heatmap(jnp.ones((2, 2, 1)), jnp.ones((2, 2))), r"heat: expected .*\(2, 2, 1\), got"),
        (
            lambda: train.losses.detection()(lambda x: [jnp.ones((3, 5, 5, 1))] * 3, example()[1], None),
            r"model: expected maps that divide the pictures \(12, 16\) into square cells, got \(5, 5\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_two_losses_of_the_same_options_are_equal():
    assert train.losses.detection(alpha=1) == train.losses.detection(alpha=1.0) != train.losses.detection()
