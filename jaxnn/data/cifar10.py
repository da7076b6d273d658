"""CIFAR-10, from the archive that its authors publish in their binary layout."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnn.data.archive import unpack_tar
from jaxnn.data.cache import cache_dir
from jaxnn.data.dataset import Dataset, Examples, check_dataset
from jaxnn.data.download import Checks, DownloadError
from jaxnn.data.download import download as fetch

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CHECKS = Checks(
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    size=170_052_171,
)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_ARCHIVE = "cifar-10-binary.tar.gz"
_FOLDER = "cifar-10-batches-bin"
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = ("test_batch.bin",)
_PYTHON_VERSION = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1")
_PER_BATCH = 10_000
_LONGEST_META = 4_096  # the published file has 61 bytes
_RECORD = 1 + 3 * 32 * 32  # a byte for the label, then the red, green and blue planes, row by row


def load_cifar10(
    data_dir: str | os.PathLike[str] | None = None, *, download: bool = True, progress: bool = True
) -> Dataset:
    """Loads CIFAR-10: 50,000 training and 10,000 test pictures, `(N, 32, 32, 3)` uint8, in ten classes.

    Without `data_dir` the published archive (162 MiB) is downloaded once, checked, and unpacked in
    `cache_dir() / "cifar10"`: `~/.cache/jaxnn/cifar10`, unless the environment variable `JAXNN_DATA` or
    `XDG_CACHE_HOME` names another folder. With `data_dir` nothing is downloaded.

    Args:
        data_dir: A folder that holds `cifar-10-batches-bin/`, that folder itself, or one that holds
            `cifar-10-binary.tar.gz` (checked, and unpacked beside itself).
        download: Whether to download the archive if the cache does not have it.
        progress: Whether to show a bar on stderr during the download.

    Returns:
        The data set. Its class names are those of `batches.meta.txt`, or the published ten if that file is missing.

    Raises:
        FileNotFoundError: If there is no copy, or a batch is missing.
        DownloadError: If the archive cannot be downloaded; the message says how to download it by hand.
        ValueError: If a file is truncated, has a wrong size or a label above 9; the message names the file and the
            record.

    References:
        A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. The binary layout is
        described at https://www.cs.toronto.edu/~kriz/cifar.html.

    Example:
        >>> cifar = load_cifar10()  # doctest: +SKIP
        >>> cifar.train.images.shape, cifar.classes[cifar.train.labels[0]]  # doctest: +SKIP
        ((50000, 32, 32, 3), 'frog')
    """
    folder = _in_cache(download, progress) if data_dir is None else _in_folder(Path(data_dir).expanduser())
    _check_sizes(folder)
    train, test = _read(folder, _TRAIN), _read(folder, _TEST)
    return check_dataset(Dataset("cifar10", train, test, _read_classes(folder)))


def _in_cache(download: bool, progress: bool) -> Path:
    home = cache_dir() / "cifar10"
    if (home / _FOLDER).exists():
        return home / _FOLDER
    by_hand = (
        "if you have a copy, name its folder with data_dir (--data-dir in the experiments); "
        "the environment variable JAXNN_DATA moves the cache."
    )
    if not download and not (home / _ARCHIVE).exists():
        raise FileNotFoundError(f"{home}: expected CIFAR-10, since download=False, got none; {by_hand}")
    try:
        return _unpack(fetch(URL, home / _ARCHIVE, progress=progress, **CHECKS._asdict()))
    except OSError as error:  # a DownloadError, a full disk, or a folder without write permission
        raise DownloadError(f"CIFAR-10: {error} Or, {by_hand}") from error


def _in_folder(data_dir: Path) -> Path:
    for folder in (data_dir, data_dir / _FOLDER):
        if any((folder / name).exists() for name in _TRAIN + _TEST):
            return folder
    archive = data_dir / _ARCHIVE
    if archive.exists():
        problem = CHECKS.problem(archive)
        if problem:
            raise ValueError(
                f"{archive}: expected the published file, got another one: {problem}; download it again from {URL}."
            )
        return _unpack(archive)
    got = "none"
    if any((data_dir / name).exists() for name in _PYTHON_VERSION):
        got = "the Python version, which is pickled, and reading a pickle can run any code"
    raise FileNotFoundError(
        f"data_dir: expected {data_dir} to hold {_FOLDER}/, the files of that folder, or {_ARCHIVE} ({URL}), "
        f"got {got}; "
        f"without data_dir CIFAR-10 is downloaded to {cache_dir() / 'cifar10'}."
    )


def _unpack(archive: Path) -> Path:
    folder = archive.parent / _FOLDER
    with contextlib.suppress(FileExistsError):  # another process was faster
        unpack_tar(archive, folder, root=_FOLDER)
    return folder


def _check_sizes(folder: Path) -> None:
    """Checks that all batches exist and have the right size, before 180 MB are read."""
    remedy = f"remove {folder} and run again, or, if it is your copy (data_dir), unpack it again from {URL}."
    missing = [name for name in _TRAIN + _TEST if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder}: expected all batches, got none named {', '.join(missing)}; {remedy}")
    expected = _PER_BATCH * _RECORD
    for name in _TRAIN + _TEST:
        got = (folder / name).stat().st_size
        if got != expected:
            fault = "truncated" if got < expected else "too long"
            raise ValueError(
                f"{folder / name}: expected {expected:,} bytes ({_PER_BATCH:,} records of {_RECORD:,}), got {got:,}, "
                f"so it is {fault}; {remedy}"
            )


def _read(folder: Path, names: Sequence[str]) -> Examples:
    images = np.empty((len(names), _PER_BATCH, 32, 32, 3), np.uint8)
    labels = np.empty((len(names), _PER_BATCH), np.int32)
    for i, name in enumerate(names):
        records = np.fromfile(folder / name, np.uint8).reshape(_PER_BATCH, _RECORD)
        labels[i] = records[:, 0]
        wrong = np.flatnonzero(labels[i] > 9)
        if wrong.size:
            raise ValueError(
                f"{folder / name}: expected labels 0..9, got {labels[i, wrong[0]]} in record {wrong[0]:,} "
                f"(of 0..{_PER_BATCH - 1:,}); the file is damaged, unpack it again from {URL}."
            )
        images[i] = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Examples(images.reshape(-1, 32, 32, 3), labels.reshape(-1))


def _read_classes(folder: Path) -> tuple[str, ...]:
    path = folder / "batches.meta.txt"
    if not path.exists():
        return CLASSES
    with path.open("rb") as file:
        content = file.read(_LONGEST_META)
    try:
        names = tuple(line.strip() for line in content.decode("utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected UTF-8, got another byte at {error.start}; the file is damaged, unpack it again "
            f"from {URL}."
        ) from None
    if len(names) != len(CLASSES):
        raise ValueError(f"{path}: expected {len(CLASSES)} classes, one per line, got {len(names)}: {names[:11]}")
    return names
