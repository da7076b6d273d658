import hashlib
import sys
from fractions import Fraction

import numpy as np
import pytest
import sklearn.datasets

from jaxnn.data import load_digits


def as_set(*examples):
    return sorted((int(label), image.tobytes()) for part in examples for image, label in zip(*part, strict=True))


def test_every_digit_stands_on_exactly_one_side():
    digits = load_digits()
    source = sklearn.datasets.load_digits()
    stretched = [[int(Fraction(255 * int(v), 16) + Fraction(1, 2)) for v in row] for row in source.data]
    whole = np.array(stretched, np.uint8).reshape(-1, 8, 8, 1)
    assert as_set(digits.train, digits.test) == as_set((whole, source.target))
    # No two are equal, so the line above tells them all apart.
    assert len(set(as_set(digits.train, digits.test))) == 1797


def test_ink_is_stretched_over_the_byte_and_can_be_had_back():
    levels = np.unique(load_digits().train.images)
    assert levels.tolist() == [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    np.testing.assert_array_equal(np.rint(levels / 255 * 16), np.arange(17))


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_the_split_is_stratified(fraction):
    digits = load_digits(test_fraction=fraction)
    train, test = (np.bincount(part.labels, minlength=10) for part in (digits.train, digits.test))
    assert np.all(np.abs(test - fraction * (train + test)) <= 0.5)


def test_the_split_is_the_same_everywhere():
    """Pinned: published accuracies are those of this split."""
    test = load_digits().test
    assert hashlib.sha256(test.images.tobytes() + test.labels.astype("<i4").tobytes()).hexdigest() == (
        "de248839a114a5ae90a76c99cb1fb438da4e2ac6cfbce51aa105e8d2bfe7a0a7"
    )


def test_the_seed_chooses_the_split():
    first, again, other = (as_set(load_digits(seed=seed).test) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 20, float("nan")])
def test_fraction_out_of_range_is_named(fraction):
    with pytest.raises(ValueError, match="test_fraction: expected a number above 0 and below 1"):
        load_digits(test_fraction=fraction)


@pytest.mark.parametrize("fraction", [1e-6, 1 - 1e-6])
def test_a_fraction_that_leaves_one_side_empty_is_refused(fraction):
    with pytest.raises(ValueError, match="expected at least one pixel"):
        load_digits(test_fraction=fraction)


def test_negative_seed_is_named():
    with pytest.raises(ValueError, match="seed: expected a whole number of at least 0, got -1"):
        load_digits(seed=-1)


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*\[experiments\]"):
        load_digits()
