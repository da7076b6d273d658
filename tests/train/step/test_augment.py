import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import train
from jaxnn.train.step import augment
from tests.train.toys import pictures

EVERY = {
    "flip": augment.random_flip,
    "shift": partial(augment.random_shift, pixels=2),
    "cutout": partial(augment.cutout, size=3),
}


def noise(shape, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(1, 255, shape), dtype)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(7, 6, 3), (5, 7, 6, 1)])
def test_shape_and_dtype_stay_and_keys_decide(name, dtype, shape):
    images = noise(shape, dtype)
    change = jax.jit(EVERY[name])
    out = change(jax.random.key(0), images)
    assert (out.shape, out.dtype) == (images.shape, images.dtype)
    np.testing.assert_array_equal(out, change(jax.random.key(0), images))
    others = [change(jax.random.key(seed), images) for seed in range(1, 9)]
    assert any(not np.array_equal(out, other) for other in others)


@pytest.mark.parametrize("name", EVERY)
def test_each_picture_has_its_own_draw(name):
    images = jnp.tile(noise((1, 9, 8, 2)), (64, 1, 1, 1))
    out = EVERY[name](jax.random.key(0), images)
    assert len({np.asarray(picture).tobytes() for picture in out}) > (1 if name == "flip" else 10)


def test_flips_mirror_about_half_of_the_pictures():
    images = noise((400, 3, 4, 2))
    out = np.asarray(augment.random_flip(jax.random.key(0), images))
    kept = (out == images).all((1, 2, 3))
    mirrored = (out == np.asarray(images)[:, :, ::-1]).all((1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


def test_shifts_equal_crops_of_the_reflected_picture_and_all_occur():
    images = noise((300, 5, 6, 2))
    out = np.asarray(augment.random_shift(jax.random.key(0), images, pixels=1))
    seen = set()
    for before, after in zip(np.asarray(images), out, strict=True):
        padded = np.pad(before, ((1, 1), (1, 1), (0, 0)), mode="reflect")
        found = [
            (dy, dx) for dy in range(3) for dx in range(3) if np.array_equal(padded[dy : dy + 5, dx : dx + 6], after)
        ]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) == 9


@pytest.mark.parametrize("size", [0, 1, 2, 3, 20])
def test_cutouts_are_squares_cut_at_the_border(size):
    images = noise((200, 6, 5, 2))
    out = np.asarray(augment.cutout(jax.random.key(0), images, size))
    centres = set()
    for before, after in zip(np.asarray(images), out, strict=True):
        blank = (after == 0).all(-1)
        np.testing.assert_array_equal(after[~blank], before[~blank])
        rows, columns = np.flatnonzero(blank.any(1)), np.flatnonzero(blank.any(0))
        assert blank.sum() == len(rows) * len(columns)
        if size:
            assert 0 < len(rows) <= min(size, 6)
            assert 0 < len(columns) <= min(size, 5)
            centres.add((rows[0], rows[-1], columns[0], columns[-1]))
    if size == 1:
        assert len(centres) == 30
    assert not size or (size == 20) == (len(centres) == 1)


def test_cutout_fills_with_the_value_given():
    out = augment.cutout(jax.random.key(0), noise((4, 4, 1)), 2, fill=-1)
    assert (np.asarray(out) == -1).any()


def test_cutout_never_rounds_what_it_fills_with():
    for dtype, fill in ((jnp.uint8, 0.5), (jnp.uint8, -1), (jnp.int32, 0.5), (jnp.bool, 2)):
        with pytest.raises(ValueError, match=f"fill: expected a value that pictures of .* hold, got {fill}; round it"):
            augment.cutout(jax.random.key(0), jnp.ones((4, 4, 1), dtype), 2, fill)
    out = augment.cutout(jax.random.key(0), jnp.zeros((4, 4, 1), jnp.uint8), 2, fill=255.0)
    assert out.dtype == jnp.uint8
    assert out.max() == 255


def test_composed_changes_apply_in_order_with_keys_of_their_own():
    seen = []

    def record(name, key, images):
        seen.append((name, jax.random.key_data(key).tolist()))
        return images + 1

    out = augment.compose(partial(record, "a"), partial(record, "b"))(jax.random.key(0), jnp.zeros(3))
    assert [name for name, _ in seen] == ["a", "b"]
    assert seen[0][1] != seen[1][1]
    np.testing.assert_array_equal(out, [2, 2, 2])


@pytest.mark.parametrize("name", EVERY)
def test_wrong_ranks_are_named(name):
    with pytest.raises(ValueError, match=r"images: expected \(height, width, channels\).*got \(4, 4\)"):
        EVERY[name](jax.random.key(0), jnp.ones((4, 4)))


def test_wrong_amounts_are_named():
    images, key = jnp.ones((4, 5, 1)), jax.random.key(0)
    for pixels in (-1, 4):
        with pytest.raises(ValueError, match="pixels: expected a "):
            augment.random_shift(key, images, pixels)
    with pytest.raises(ValueError, match="size: expected a whole number"):
        augment.cutout(key, images, -1)


def test_preprocessing_normalises_alike_and_augments_in_training_only():
    batch = pictures(8)
    mean, std = np.array([0.25]), np.array([0.5])
    change = partial(augment.cutout, size=20, fill=7)
    preprocess = train.image_preprocess(mean=mean, std=std, augmentation=change)
    evaluated = preprocess(None, batch)
    assert evaluated.images.dtype == jnp.float32
    np.testing.assert_allclose(evaluated.images, (batch.images / 255.0 - 0.25) / 0.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(evaluated.labels, batch.labels)
    assert (np.asarray(preprocess(jax.random.key(0), batch).images) == 7).all()


def test_floating_point_pictures_are_not_scaled():
    batch = pictures(2)._replace(images=jnp.ones((2, 3, 3, 3)))
    out = train.image_preprocess(mean=[0.0, 0.5, 1.0])(None, batch)
    np.testing.assert_allclose(out.images[0, 0, 0], [1, 0.5, 0])


def test_a_spread_that_is_not_positive_is_named():
    with pytest.raises(ValueError, match="std: expected positive numbers"):
        train.image_preprocess(std=[1.0, 0.0, 1.0])


def test_functions_of_training_can_be_sent_to_another_process():
    for function, *args in (
        (augment.compose(augment.random_flip, partial(augment.cutout, size=2)), jax.random.key(0), jnp.ones((4, 4, 1))),
        (train.losses.l2(0.5), jnp.ones((2, 2))),
        (train.image_preprocess(mean=[0.5], std=[2.0]), None, jnp.ones((2, 4, 4, 1), jnp.uint8)),
    ):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(function))(*args), function(*args))
