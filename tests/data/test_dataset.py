import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnn
from jaxnn.data import Dataset, Examples, check_dataset, load, load_cifar10, load_digits, load_idx, loading


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
    heavy = ("jax", "flax", "sklearn", "rich", "jaxnn.models")
    environment = {**os.environ, "PYTHONPATH": str(Path(jaxnn.__file__).parents[1])}
    code = f"import jaxnn.data, sys; sys.exit(str([name for name in {heavy!r} if name in sys.modules] or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stderr.strip() == ""


def test_load_passes_on_to_the_loader(monkeypatch):
    calls = []
    monkeypatch.setattr(loading, "load_cifar10", lambda *args, **options: calls.append((args, options)))
    monkeypatch.setattr(loading, "load_idx", lambda *args: calls.append((args, {})))
    load("cifar10")
    load("cifar10", "here", download=False, progress=False)
    load("idx", "there")
    assert calls == [
        ((None,), {"download": True, "progress": True}),
        (("here",), {"download": False, "progress": False}),
        (("there",), {}),
    ]


def test_load_digits_is_the_default_split():
    np.testing.assert_array_equal(load("digits").test.images, load_digits().test.images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnist",), r"name: expected one of 'digits', 'cifar10', 'idx', got 'mnist'"),
        (("digits", "here"), r"data_dir: expected None for 'digits'.*got 'here'"),
        (("idx",), r"data_dir: expected a folder for 'idx'"),
    ],
)
def test_load_names_what_is_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(*arguments)


def test_loaders_are_reachable_by_their_own_names():
    assert all(callable(loader) for loader in (load_cifar10, load_digits, load_idx))
