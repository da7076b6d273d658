"""IDX, the file format of MNIST and of similar data sets (Fashion-MNIST, KMNIST, ...)."""

import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jaxnn.data.dataset import Dataset, Examples, check_dataset
from jaxnn.data.published import Part, Published

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    r"""Reads one IDX file, plain or gzip (detected by its first bytes, not its name).

    A file is two zero bytes, one byte for the dtype (0x08 uint8, 0x09 int8, 0x0B int16, 0x0C int32,
    0x0D float32, 0x0E float64), one byte for the number of axes, one big-endian uint32 per axis for its size,
    and the values, big-endian, last axis fastest.

    Only as many bytes are read or unpacked as the header states.

    Args:
        path: The file.

    Returns:
        The array, with the shape that the file states, in this machine's byte order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not an IDX file, is shorter or longer than its header states, or is a damaged gzip.

    References:
        Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits ("file formats").

    Example:
        >>> from pathlib import Path
        >>> header = bytes([0, 0, 0x0B, 2, 0, 0, 0, 1, 0, 0, 0, 2])
        >>> _ = Path("a.idx").write_bytes(header + b"\x01\x00\xff\xff")
        >>> read_idx("a.idx")
        array([[256,  -1]], dtype=int16)
    """
    path = Path(path)
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if not packed:
            return _parse(path, file)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _parse(path, unpacked)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{path}: expected a whole gzip file, got a truncated or damaged one ({error}); download it again."
            ) from error


def _parse(path: Path, file: io.BufferedIOBase) -> npt.NDArray[Any]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise ValueError(f"{path}: expected an IDX file, which starts with two zero bytes, got {start.hex(' ')!r}")
    code, axes = start[2:]
    if code not in _DTYPES:
        known = ", ".join(f"0x{known:02x}" for known in _DTYPES)
        raise ValueError(f"{path}: expected an IDX file, with a dtype code of {known}, got 0x{code:02x}")
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise ValueError(f"{path}: expected a header of {4 + 4 * axes} bytes for {axes} axes, got {4 + len(sizes)}")
    shape = struct.unpack(f">{axes}I", sizes)
    dtype = np.dtype(_DTYPES[code])
    expected = math.prod(shape) * dtype.itemsize
    content = bytearray()
    # Read no more than the header states, and take no more memory than there are bytes. One byte more shows whether the
    # file is longer; before gzip returns that byte it checks its checksum.
    while chunk := file.read(min(expected + 1 - len(content), _CHUNK)):
        content += chunk
    if len(content) != expected:
        short = len(content) < expected
        raise ValueError(
            f"{path}: expected {expected:,} bytes after the header, which states shape {shape} of {dtype.name}, got "
            f"{f'{len(content):,} (truncated)' if short else 'more (trailing bytes)'}; download it again."
        )
    try:
        array = np.frombuffer(content, dtype).reshape(shape)
    except ValueError as error:  # too many axes, or too long ones beside an empty one
        raise ValueError(f"{path}: expected a shape that NumPy can hold, got {shape} ({error})") from error
    return array.astype(dtype.newbyteorder("="), copy=False)


def load_idx(data_dir: str | os.PathLike[str]) -> Dataset:
    """Loads a folder in MNIST's format: MNIST itself, Fashion-MNIST, KMNIST and similar ones.

    The folder holds four files, `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
    `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each plain or with `.gz`, also spelled with a dot
    (`train-images.idx3-ubyte`).

    Args:
        data_dir: The folder.

    Returns:
        Images `(N, H, W, 1)` uint8 and labels `(N,)` int32. The files do not name classes, so the names are "0", "1",
        ... up to the highest label. The data set is named after its folder.

    Raises:
        FileNotFoundError: If one of the four files is missing; the message lists the names that were tried.
        ValueError: If a file is damaged (see `read_idx`), has other axes or another dtype, or numbers of examples
            differ.

    Example:
        >>> from pathlib import Path
        >>> for split in ("train", "t10k"):
        ...     images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3]) + bytes(range(6))
        ...     labels = bytes([0, 0, 8, 1, 0, 0, 0, 2]) + bytes([1, 0])
        ...     _ = Path(f"{split}-images-idx3-ubyte").write_bytes(images)
        ...     _ = Path(f"{split}-labels-idx1-ubyte").write_bytes(labels)
        >>> dataset = load_idx(".")
        >>> dataset.train.images.shape, dataset.train.labels, dataset.classes
        ((2, 1, 3, 1), array([1, 0], dtype=int32), ('0', '1'))
    """
    folder = Path(data_dir)
    train, test = read_idx_part(folder, "train"), read_idx_part(folder, "test")
    highest = max((int(examples.labels.max()) for examples in (train, test) if examples.labels.size), default=0)
    classes = tuple(str(label) for label in range(highest + 1))
    return check_dataset(Dataset(folder.resolve().name, train, test, classes))


def read_idx_part(folder: Path, part: Part, published: Published | None = None) -> Examples:
    """Reads the pictures and labels of a part of a folder in MNIST's format, of whatever data set."""
    split = "train" if part == "train" else "t10k"
    return Examples(
        _read_ubytes(folder, split, "images", axes=3)[..., None],
        _read_ubytes(folder, split, "labels", axes=1).astype(np.int32),
    )


def _read_ubytes(folder: Path, split: str, kind: str, *, axes: int) -> npt.NDArray[np.uint8]:
    names = [f"{split}-{kind}{dot}idx{axes}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{folder}: expected an MNIST-format folder with one of {', '.join(names)}, got no such file"
        )
    array = read_idx(path)
    if array.ndim != axes or array.dtype != np.uint8:
        raise ValueError(f"{path}: expected {axes} axes of uint8, got shape {array.shape} of {array.dtype}")
    return array
