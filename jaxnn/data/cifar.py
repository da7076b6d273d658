"""CIFAR-10 and CIFAR-100 in the two layouts that their authors publish: binary, and "Python", which is pickled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jaxnn.data.dataset import Examples
from jaxnn.data.pickled import read_pickle
from jaxnn.data.published import Part, Published

_BATCHES: dict[str, dict[Part, tuple[str, ...]]] = {
    "cifar10": {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    "cifar100": {"train": ("train",), "test": ("test",)},
}
_LABEL_BYTES = {"cifar10": 1, "cifar100": 2}  # of CIFAR-100 the superclass, then the class
_LABELS = {"cifar10": "labels", "cifar100": "fine_labels"}
_PIXELS = 3 * 32 * 32  # the red, green and blue planes, row by row


def read_binary(folder: Path, part: Part, published: Published) -> Examples:
    """Reads the records of the binary layout: a byte for each label, then the pixels."""
    paths, each = _batches(folder, part, published, ".bin")
    record = _LABEL_BYTES[published.name] + _PIXELS
    for path in paths:  # before any is read, since all are 180 MB
        got = path.stat().st_size
        if got != each * record:
            fault = "truncated" if got < each * record else "too long"
            raise ValueError(
                f"{path}: expected {each * record:,} bytes ({each:,} records of {record:,}), got {got:,}, "
                f"so it is {fault}; {_remedy(folder)}"
            )

    def batch(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
        records = np.fromfile(path, np.uint8).reshape(each, record)
        return records[:, -_PIXELS:], records[:, -_PIXELS - 1]

    return _examples(paths, each, batch, published)


def read_python(folder: Path, part: Part, published: Published) -> Examples:
    """Reads the batches of the Python layout; nothing in the pickles is run (see `read_pickle`)."""
    paths, each = _batches(folder, part, published, "")
    name = _LABELS[published.name]

    def batch(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
        held = read_pickle(path)
        pixels, classes = held.get(b"data"), held.get(name.encode())
        if not isinstance(pixels, np.ndarray) or pixels.shape != (each, _PIXELS):
            raise ValueError(
                f"{path}: expected 'data' of shape ({each}, {_PIXELS}), got {_described(pixels)}; {_remedy(folder)}"
            )
        if not isinstance(classes, list) or len(classes) != each or any(type(label) is not int for label in classes):
            raise ValueError(
                f"{path}: expected {name!r} to be {each:,} integers, got {_described(classes)}; {_remedy(folder)}"
            )
        return pixels, np.array(classes, np.int64)  # int64 holds any pickled label

    return _examples(paths, each, batch, published)


def _batches(folder: Path, part: Part, published: Published, ending: str) -> tuple[list[Path], int]:
    """The files of a part, and the number of examples in each."""
    paths = [folder / f"{name}{ending}" for name in _BATCHES[published.name][part]]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            f"{folder}: expected all batches, got none named {', '.join(missing)}; {_remedy(folder)}"
        )
    return paths, published.counts[part] // len(paths)


def _examples(
    paths: list[Path],
    each: int,
    batch: Callable[[Path], tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]],
    published: Published,
) -> Examples:
    """Reads batch after batch, each as pixels `(each, 3072)` and labels `(each,)`."""
    images = np.empty((len(paths), each, 32, 32, 3), np.uint8)
    labels = np.empty((len(paths), each), np.int32)
    for i, path in enumerate(paths):
        pixels, found = batch(path)
        _expect_labels(path, found, published)
        images[i], labels[i] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), found
    return Examples(images.reshape(-1, 32, 32, 3), labels.reshape(-1))


def _expect_labels(path: Path, labels: npt.NDArray[Any], published: Published) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= len(published.classes)))
    if wrong.size:
        raise ValueError(
            f"{path}: expected labels 0..{len(published.classes) - 1}, got {labels[wrong[0]]} in record {wrong[0]:,} "
            f"(of 0..{len(labels) - 1:,}); {_remedy(path.parent)}"
        )


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"shape {value.shape}"
    return f"a list of {len(value):,}" if isinstance(value, list) else type(value).__name__


def _remedy(folder: Path) -> str:
    return f"remove {folder} and run again, or, if it is your copy (data_dir), unpack it again."
