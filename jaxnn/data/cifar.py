"""CIFAR-10 and CIFAR-100 in the two layouts that their authors publish: binary, and "Python", which is pickled."""

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
    names = [f"{name}.bin" for name in _BATCHES[published.name][part]]
    _expect_files(folder, names)
    each = published.counts[part] // len(names)
    record = _LABEL_BYTES[published.name] + _PIXELS
    for name in names:  # before any is read: all of them are 180 MB
        got = (folder / name).stat().st_size
        if got != each * record:
            fault = "truncated" if got < each * record else "too long"
            raise ValueError(
                f"{folder / name}: expected {each * record:,} bytes ({each:,} records of {record:,}), got {got:,}, "
                f"so it is {fault}; {_remedy(folder)}"
            )
    images = np.empty((len(names), each, 32, 32, 3), np.uint8)
    labels = np.empty((len(names), each), np.int32)
    for i, name in enumerate(names):
        records = np.fromfile(folder / name, np.uint8).reshape(each, record)
        labels[i] = records[:, -_PIXELS - 1]
        _expect_labels(folder / name, labels[i], published)
        images[i] = _pictures(records[:, -_PIXELS:])
    return Examples(images.reshape(-1, 32, 32, 3), labels.reshape(-1))


def read_python(folder: Path, part: Part, published: Published) -> Examples:
    """Reads the batches of the Python layout; nothing in the pickles is run (see `read_pickle`)."""
    names = _BATCHES[published.name][part]
    _expect_files(folder, names)
    each = published.counts[part] // len(names)
    images = np.empty((len(names), each, 32, 32, 3), np.uint8)
    labels = np.empty((len(names), each), np.int32)
    for i, name in enumerate(names):
        batch = read_pickle(folder / name)
        pixels, classes = (batch.get(key.encode()) for key in ("data", _LABELS[published.name]))
        if not isinstance(pixels, np.ndarray) or pixels.shape != (each, _PIXELS):
            raise ValueError(
                f"{folder / name}: expected 'data' of shape ({each}, {_PIXELS}), got {_described(pixels)}; "
                f"{_remedy(folder)}"
            )
        if not isinstance(classes, list) or len(classes) != each or any(type(label) is not int for label in classes):
            raise ValueError(
                f"{folder / name}: expected {_LABELS[published.name]!r} to be {each:,} integers, got "
                f"{_described(classes)}; {_remedy(folder)}"
            )
        # Through int64, which holds whatever a pickle's four bytes can.
        wide = np.array(classes, np.int64)
        _expect_labels(folder / name, wide, published)
        images[i], labels[i] = _pictures(pixels), wide
    return Examples(images.reshape(-1, 32, 32, 3), labels.reshape(-1))


def _pictures(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _expect_files(folder: Path, names: list[str] | tuple[str, ...]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: expected all batches, got none named {', '.join(missing)}; {_remedy(folder)}"
        )


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
