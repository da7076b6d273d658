import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn.data import Dataset, Examples, channel_statistics, check_dataset, load, load_digits, split


def examples(n=3, shape=(4, 5, 1), labels=None):
    return Examples(np.zeros((n, *shape), np.uint8), np.arange(n, dtype=np.int32) if labels is None else labels)


def dataset(train, test=None, classes=("a", "b", "c")):
    return Dataset("mine", train, examples() if test is None else test, classes)


def test_a_sound_one_is_returned_as_it_came():
    sound = dataset(examples())
    assert check_dataset(sound) is sound


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            examples()._replace(labels=np.arange(2, dtype=np.int32)),
            "mine: train: expected one label per image, got 3 images and 2 labels",
        ),
        (
            examples()._replace(images=np.zeros((3, 4, 5), np.uint8)),
            r"train\.images: expected .*\(3, 4, 5\) of uint8",
        ),
        (examples()._replace(images=np.zeros((3, 4, 5, 1))), r"train\.images: expected .* of float64"),
        (examples(labels=[0, 1, 2]), r"train\.labels: expected .* of int64; convert them"),
        (examples(labels=np.arange(3)), r"train\.labels: expected .* of int64"),
        (examples(labels=np.zeros((3, 1), np.int32)), r"train\.labels: expected .*\(3, 1\)"),
        (examples(0), r"mine: train\.images: expected at least one pixel"),
        (examples(4), r"train\.labels: expected 0\.\.2, one of 3 classes, got 3 at index 3"),
        (examples(labels=np.array([0, -1, 1], np.int32)), r"train\.labels: .*got -1 at index 1"),
        (examples(shape=(4, 5, 3)), r"one shape \(H, W, C\), got \(4, 5, 3\) and \(4, 5, 1\)"),
    ],
)
def test_what_does_not_fit_is_named(train, message):
    with pytest.raises(ValueError, match=message):
        check_dataset(dataset(train))


def test_the_test_part_is_checked_too():
    with pytest.raises(ValueError, match=r"mine: test\.images: expected at least one pixel"):
        check_dataset(dataset(examples(), examples(0)))


def test_examples_are_a_pytree_that_goes_to_the_device():
    on_device = jax.device_put(examples())
    assert isinstance(on_device, Examples)
    assert all(isinstance(array, jax.Array) for array in on_device)


def test_importing_it_brings_neither_jax_nor_what_only_one_loader_needs():
    heavy = ("jax", "flax", "sklearn", "rich", "pyarrow", "PIL", "jaxnn.models")
    environment = {**os.environ, "PYTHONPATH": str(Path(jaxnn.__file__).parents[1])}
    code = f"import jaxnn.data, sys; sys.exit(str([name for name in {heavy!r} if name in sys.modules] or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stderr.strip() == ""


def test_load_digits_is_the_default_split():
    np.testing.assert_array_equal(load("digits").test.images, load_digits().test.images)


def test_a_part_to_choose_by_is_held_back_the_same_way_every_time():
    examples = Examples(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10, dtype=np.int32))
    learned, held = split(examples, 0.3)
    np.testing.assert_array_equal(held.labels, split(examples, 0.3)[1].labels)
    np.testing.assert_array_equal(np.sort(np.concatenate([learned.labels, held.labels])), np.arange(10))
    np.testing.assert_array_equal(held.images.ravel(), held.labels)
    for share in (0.0, 1.0, 0.01, float("nan")):
        with pytest.raises(ValueError, match="share: expected a share that leaves pictures on both sides"):
            split(examples, share)


def test_channel_statistics_are_of_scaled_pictures_and_can_be_divided_by():
    images = np.stack([np.full((4, 3, 3), 51, np.uint8), np.tile(np.uint8([0, 255, 255]), (4, 3, 1))], axis=-1)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, [0.2, 2 / 3])
    np.testing.assert_allclose(std, [1 / 255, np.sqrt(2) / 3])
    noise = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 2), np.uint8)
    np.testing.assert_allclose(channel_statistics(noise), [noise.mean((0, 1, 2)) / 255, noise.std((0, 1, 2)) / 255])
    with pytest.raises(ValueError, match=r"images: expected \(N, H, W, C\) of uint8, got .* of float64"):
        channel_statistics(noise / 255)
