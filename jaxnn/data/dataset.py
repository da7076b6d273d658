"""A data set: two pairs of arrays on the host, and the names of the classes."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxnn.counts import check_count
from jaxnn.shapes import shown


@shown
class Examples(NamedTuple):
    """Pictures and their classes, as NumPy arrays on the host.

    Both arrays form a pytree, so `jax.device_put(examples)` copies them to the device in one call.

    Attributes:
        images: `(N, H, W, C)` uint8, channels last.
        labels: `(N,)` int32, each an index into `Dataset.classes`.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]


@shown
class Dataset(NamedTuple):
    """A data set with a fixed split into training and test examples.

    Attributes:
        name: Its name in run folders and plots.
        train: The training examples.
        test: The held-out examples.
        classes: `classes[label]` is the name of that label.
    """

    name: str
    train: Examples
    test: Examples
    classes: tuple[str, ...]


def check_dataset(dataset: Dataset) -> Dataset:
    """Checks that the parts of a data set fit together.

    Every loader here ends with this check; your loader can too.

    Args:
        dataset: Train and test images `(N, H, W, C)` uint8 and labels `(N,)` int32, N at least 1 and all
            pictures of one shape; labels in `0 .. len(classes) - 1`.

    Returns:
        `dataset`, unchanged.

    Raises:
        ValueError: If a shape, dtype, length or label does not fit; the message names the array.

    Example:
        >>> import numpy as np
        >>> examples = Examples(np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1], np.int32))
        >>> check_dataset(Dataset("tiny", examples, examples, ("cat", "dog"))).name
        'tiny'
        >>> check_dataset(Dataset("tiny", examples, examples, ("cat",)))
        Traceback (most recent call last):
            ...
        ValueError: tiny: train.labels: expected 0..0, one of 1 class, got 1 at index 1
    """
    for split in ("train", "test"):
        _check_examples(f"{dataset.name}: {split}", getattr(dataset, split), len(dataset.classes))
    train, test = (examples.images.shape[1:] for examples in (dataset.train, dataset.test))
    if train != test:
        raise ValueError(
            f"{dataset.name}: expected train and test pictures of one shape (H, W, C), got {train} and {test}"
        )
    return dataset


def channel_statistics(images: npt.NDArray[np.uint8]) -> tuple[np.ndarray, np.ndarray]:
    """Computes mean and standard deviation of each channel of the scaled pictures, for `train.image_preprocess`.

    Args:
        images: `(N, H, W, C)` uint8.

    Returns:
        Two arrays `(C,)`, for pictures scaled to 0 to 1. A standard deviation is at least 1/255, so that a constant
        channel can be divided by it.

    Raises:
        ValueError: If the pictures have another shape or dtype.

    Example:
        >>> import numpy as np
        >>> from jaxnn import data
        >>> data.channel_statistics(np.array([[[[0]], [[255]]]], np.uint8))
        (array([0.5]), array([0.5]))
    """
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"images: expected (N, H, W, C) of uint8, got {images.shape} of {images.dtype}; convert them.")
    # Sums over how often each value occurs are exact, and need no copy of the pictures as floats.
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(images, -1, 0)])
    values = np.arange(256)
    mean = counts @ values / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return mean / 255, np.maximum(np.sqrt(variance), 1) / 255


def split(examples: Examples, share: float) -> tuple[Examples, Examples]:
    """Splits training pictures into a training and a validation set, always in the same way.

    Args:
        examples: The training pictures; their order is kept in both parts.
        share: Fraction of the examples for the validation set.

    Returns:
        The training set, and the validation set.

    Raises:
        ValueError: If one of the parts would be empty.

    Example:
        >>> import numpy as np
        >>> from jaxnn import data
        >>> examples = data.Examples(np.zeros((10, 8, 8, 1), np.uint8), np.arange(10, dtype=np.int32))
        >>> learned, validation = data.split(examples, 0.2)
        >>> len(learned.labels), len(validation.labels)
        (8, 2)
    """
    held = round(share * len(examples.labels)) if 0 < share < 1 else 0
    if not 0 < held < len(examples.labels):
        raise ValueError(f"share: expected a share that leaves pictures on both sides, got {share}")
    order = np.random.default_rng(0).permutation(len(examples.labels))
    learned, validation = np.sort(order[held:]), np.sort(order[:held])
    return (
        Examples(examples.images[learned], examples.labels[learned]),
        Examples(examples.images[validation], examples.labels[validation]),
    )


def check_held_out(test_fraction: float, seed: int) -> None:
    """Raises unless a fraction of each class can be held out, and the seed is 0 or above."""
    check_count("seed", seed, 0)
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction: expected a number above 0 and below 1, got {test_fraction}; 0.2 is a fifth.")


def _check_examples(where: str, examples: Examples, classes: int) -> None:
    images, labels = map(np.asarray, examples)
    if images.ndim != 4 or images.dtype != np.uint8:
        advice = "a channel axis is missing: images[..., None]" if images.ndim == 3 else "255 is full intensity"
        raise ValueError(
            f"{where}.images: expected (N, H, W, C) of uint8, got shape {images.shape} of {images.dtype}; {advice}."
        )
    if labels.ndim != 1 or labels.dtype != np.int32:
        raise ValueError(
            f"{where}.labels: expected (N,) of int32, got shape {labels.shape} of {labels.dtype}; convert them: "
            "np.asarray(labels, np.int32)."
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{where}: expected one label per image, got {len(images):,} images and {len(labels):,} labels"
        )
    if not images.size:
        raise ValueError(f"{where}.images: expected at least one pixel, got shape {images.shape}")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        known = "1 class" if classes == 1 else f"{classes} classes"
        raise ValueError(
            f"{where}.labels: expected 0..{classes - 1}, one of {known}, got {labels[wrong[0]]} at index {wrong[0]}"
        )
