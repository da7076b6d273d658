from pathlib import Path

import numpy as np
import pytest

from jaxnn.data import load
from jaxnn.data.table import TABLE
from tests.data import forms

BINARY, PYTHON = Path("copy/cifar-10-batches-bin"), Path("copy/cifar-10-batches-py")


@pytest.fixture(autouse=True)
def small(small_tables):
    """Few pictures of each."""


@pytest.fixture
def binary():
    forms.write_binary("cifar10", BINARY)


@pytest.fixture
def python():
    forms.write_python("cifar10", PYTHON)


def rewrite(batch, **changes):
    """Writes a batch of the Python layout with other contents."""
    rows = np.zeros((3, 3072), np.uint8)
    Path(PYTHON, batch).write_bytes(forms.pickled({"labels": [0, 1, 2], "data": rows} | changes))


def test_published_sizes():
    assert {name: TABLE[name].shape for name in forms.SHAPES} == forms.SHAPES


@pytest.mark.parametrize(("change", "fault"), [(-1, "truncated"), (+1, "too long"), (-99999, "truncated")])
def test_wrong_size_is_named(binary, change, fault):
    path = BINARY / "data_batch_4.bin"
    content = path.read_bytes() + b"x"
    path.write_bytes(content[: max(0, len(content) - 1 + change)])
    with pytest.raises(ValueError, match=rf"data_batch_4\.bin: expected 9,219 bytes .* so it is {fault}; remove"):
        load("cifar10", "copy")


@pytest.mark.parametrize("name", ["data_batch_2.bin", "test_batch.bin"])
def test_label_above_nine_is_named(binary, name):
    path = BINARY / name
    content = bytearray(path.read_bytes())
    content[2 * 3073] = 10
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: expected labels 0\.\.9, got 10 in record 2 \(of 0\.\.2\)"):
        load("cifar10", "copy")


def test_all_missing_batches_are_named(binary):
    (BINARY / "data_batch_2.bin").unlink()
    (BINARY / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"got none named data_batch_2\.bin, data_batch_3\.bin; remove"):
        load("cifar10", "copy")


def test_the_superclass_is_not_taken_for_the_class():
    forms.write_binary("cifar100", Path("copy/cifar-100-binary"))
    dataset = load("cifar100", "copy")
    forms.assert_is(dataset, "cifar100")
    assert (len(dataset.classes), dataset.classes[0], dataset.classes[99]) == (100, "apple", "worm")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1, 10]}, r"expected labels 0\.\.9, got 10 in record 2"),
        ({"labels": [0, -1, 2]}, r"expected labels 0\.\.9, got -1 in record 1"),
        ({"labels": [0, 2**31 - 1, 2]}, r"expected labels 0\.\.9, got 2147483647 in record 1"),
        ({"labels": [0, 1]}, "expected 'labels' to be 3 integers, got a list of 2"),
        ({"labels": [0, 1, "2"]}, "expected 'labels' to be 3 integers, got a list of 3"),
        ({"labels": "012"}, "expected 'labels' to be 3 integers, got bytes"),
        ({"data": np.zeros((3, 3071), np.uint8)}, r"expected 'data' of shape \(3, 3072\), got shape \(3, 3071\)"),
        ({"data": np.zeros((2, 3072), np.uint8)}, r"expected 'data' of shape \(3, 3072\), got shape \(2, 3072\)"),
        ({"data": "none"}, r"expected 'data' of shape \(3, 3072\), got bytes"),
    ],
    ids=str,
)
def test_a_batch_of_another_content_is_named(python, changes, message):
    rewrite("data_batch_3", **changes)
    with pytest.raises(ValueError, match=f"data_batch_3: {message}.*; remove .*cifar-10-batches-py and run again"):
        load("cifar10", "copy")


def test_a_missing_batch_of_the_python_layout_is_named(python):
    (PYTHON / "test_batch").unlink()
    with pytest.raises(FileNotFoundError, match="got none named test_batch; remove"):
        load("cifar10", "copy")


def test_a_truncated_pickle_is_named(python):
    path = PYTHON / "data_batch_5"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="data_batch_5: expected a pickled batch of CIFAR, got a damaged file"):
        load("cifar10", "copy")
