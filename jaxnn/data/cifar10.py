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
    """CIFAR-10: 50,000 pictures to learn from and 10,000 held out, `(N, 32, 32, 3)` uint8, in ten classes.

    Without `data_dir` the published archive (162 MiB) is fetched once, checked, and unpacked in
    `cache_dir() / "cifar10"`: `~/.cache/jaxnn/cifar10`, unless the environment variable `JAXNN_DATA` or
    `XDG_CACHE_HOME` says otherwise. With it the copy that is there is read, and nothing is ever downloaded.

    Args:
        data_dir: a folder that holds `cifar-10-batches-bin/`, that folder itself, or one that holds
            `cifar-10-binary.tar.gz` (checked, and unpacked beside itself).
        download: whether to fetch what the cache does not have; with False that is an error.
        progress: show a bar on stderr during the download.

    Returns:
        The data set; its class names are those of `batches.meta.txt`, or the published ten where that file is
        missing.

    Raises:
        FileNotFoundError: there is no copy, or a batch is missing.
        DownloadError: the archive cannot be fetched; the message says what to fetch by hand and where to put
            it.
        ValueError: a file is truncated, has a wrong size or a label above 9; the message names the file and
            the record.

    Source:
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
        "If you have a copy already, name its folder with data_dir (--data-dir in the experiments); "
        "the environment variable JAXNN_DATA moves the cache"
    )
    if not download and not (home / _ARCHIVE).exists():
        raise FileNotFoundError(f"CIFAR-10 is not in {home}, and download is off. {by_hand}")
    try:
        return _unpack(fetch(URL, home / _ARCHIVE, progress=progress, **CHECKS._asdict()))
    except OSError as error:  # a DownloadError, or a full disk, or a folder that may not be written to
        raise DownloadError(f"{error}. {by_hand}") from error


def _in_folder(data_dir: Path) -> Path:
    for folder in (data_dir, data_dir / _FOLDER):
        if any((folder / name).exists() for name in _TRAIN + _TEST):
            return folder
    archive = data_dir / _ARCHIVE
    if archive.exists():
        problem = CHECKS.problem(archive)
        if problem:
            raise ValueError(f"{archive} is not the published file: {problem}. Fetch it again from {URL}")
        return _unpack(archive)
    hint = ""
    if any((data_dir / name).exists() for name in _PYTHON_VERSION):
        hint = " What is there is the Python version: it is pickled, and reading a pickle can run any code."
    raise FileNotFoundError(
        f"data_dir {data_dir} has no CIFAR-10: it must hold {_FOLDER}/, the files of that folder, or "
        f"{_ARCHIVE} ({URL}).{hint} Without data_dir it is downloaded to {cache_dir() / 'cifar10'}"
    )


def _unpack(archive: Path) -> Path:
    folder = archive.parent / _FOLDER
    with contextlib.suppress(FileExistsError):  # another process was faster
        unpack_tar(archive, folder, root=_FOLDER)
    return folder


def _check_sizes(folder: Path) -> None:
    """All batches there, each as long as it must be: told before 180 MB are read."""
    remedy = f"Remove {folder} and run again; a copy of your own (data_dir) has to be unpacked again from {URL}"
    missing = [name for name in _TRAIN + _TEST if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} has no {', '.join(missing)}. {remedy}")
    expected = _PER_BATCH * _RECORD
    for name in _TRAIN + _TEST:
        got = (folder / name).stat().st_size
        if got != expected:
            fault = "truncated" if got < expected else "too long"
            raise ValueError(
                f"{folder / name} is {fault}: it must have {expected:,} bytes "
                f"({_PER_BATCH:,} records of {_RECORD:,}); got {got:,}. {remedy}"
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
                f"{folder / name} is damaged: record {wrong[0]:,} (of 0..{_PER_BATCH - 1:,}) has label "
                f"{labels[i, wrong[0]]}; labels are 0..9. Unpack it again from {URL}"
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
        raise ValueError(f"{path} is damaged: byte {error.start} is not UTF-8. Unpack it again from {URL}") from None
    if len(names) != len(CLASSES):
        raise ValueError(f"{path} must name {len(CLASSES)} classes, one a line; got {len(names)}: {names[:11]}")
    return names
