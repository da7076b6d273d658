"""Data sets by name, as a command line gives it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from jaxnn.data import copies
from jaxnn.data.cache import cache_dir
from jaxnn.data.dataset import Dataset
from jaxnn.data.digits import load_digits
from jaxnn.data.download import DownloadError, FailedError, fetch
from jaxnn.data.idx import load_idx
from jaxnn.data.pictures import load_pictures
from jaxnn.data.progress import DownloadProgress
from jaxnn.data.published import Host, Published
from jaxnn.data.table import TABLE

Name: TypeAlias = Literal["digits", "cifar10", "cifar100", "mnist", "fashion-mnist", "idx", "folder"]

_OWN = {"idx": "train-images-idx3-ubyte", "folder": "a sub-folder of pictures for each class"}
"""Data of your own: what the folder holds."""
_SLOWEST = 256 << 10  # bytes a second: 170 MB take eleven minutes then
_TIMEOUT = 15.0  # seconds


def load(
    name: Name,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    progress: bool = True,
    side: int = 32,
) -> Dataset:
    """Loads a data set by name; images are `(N, H, W, C)` uint8, labels `(N,)` int32.

    | name | pictures | training and test | classes |
    |---|---|---|---|
    | `"digits"` | 8x8 grey, within scikit-learn | 1,438 and 359 | 10 |
    | `"cifar10"` | 32x32 colour | 50,000 and 10,000 | 10 |
    | `"cifar100"` | 32x32 colour | 50,000 and 10,000 | 100 |
    | `"mnist"` | 28x28 grey | 60,000 and 10,000 | 10 |
    | `"fashion-mnist"` | 28x28 grey | 60,000 and 10,000 | 10 |
    | `"idx"` | grey, a folder in MNIST's format | what the files hold | what the files hold |
    | `"folder"` | colour, a folder with one sub-folder per class: `load_pictures` | what it holds | what it holds |

    Without `data_dir` a published data set is read from the first of these that has it: the cache,
    `cache_dir() / name`; the folders of other libraries (`data/`, the usual folder for torchvision, Keras's
    `~/.keras/datasets` and the cache of the Hugging Face Hub); its hosts, in the order of the table in
    `jaxnn/data/table.py`. If a host fails, sends another file than the published one, or sends less than 256 KiB per
    second, the next one is tried; if none is left, the fastest of the slow ones.

    Args:
        name: Which one.
        data_dir: A folder with a copy: required for `"idx"` and `"folder"`, not allowed for `"digits"`, which has no
            files. It contains the files, a folder with the files (torchvision's `root`, Keras's `datasets`), or a
            published archive, which is checked and unpacked beside itself. The files may be the published ones, those
            of torchvision and Keras, or Parquet files of the Hugging Face Hub. Nothing is downloaded.
        download: Whether to download missing files.
        progress: Whether to print the source of the data and the progress of a download on stderr.
        side: Side in pixels to which pictures of `"folder"` are scaled and cropped.

    Returns:
        The data set.

    Raises:
        ValueError: If the name is unknown, `data_dir` is missing or does not apply, or a file is truncated, has a wrong
            size or a label that is not a class; the message names the file.
        FileNotFoundError: If there is no copy, or a file of it is missing.
        DownloadError: If no host has it; the message gives the reason for each, and what to download by hand, from
            where and to where.
        ModuleNotFoundError: If the copy is in Parquet files and pyarrow or Pillow is not installed.

    References:
        A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009 (CIFAR). Y. LeCun, C. Cortes and
        C. Burges, The MNIST database of handwritten digits. H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel
        Image Dataset for Benchmarking Machine Learning Algorithms, 2017.

    Example:
        >>> load("digits").train.images.shape
        (1438, 8, 8, 1)
        >>> cifar = load("cifar10")  # doctest: +SKIP
        >>> cifar.train.images.shape, cifar.classes[cifar.train.labels[0]]  # doctest: +SKIP
        ((50000, 32, 32, 3), 'frog')
        >>> load("svhn")
        Traceback (most recent call last):
            ...
        ValueError: name: expected one of digits, cifar10, cifar100, mnist, fashion-mnist, idx, folder, got 'svhn'
    """
    if name == "digits":
        if data_dir is not None:
            raise ValueError(
                f"data_dir: expected None for 'digits', which scikit-learn contains, got {os.fspath(data_dir)!r}; "
                "leave it out, or load 'mnist' or 'idx'."
            )
        return load_digits()
    if name in _OWN:
        if data_dir is None:
            raise ValueError(
                f"data_dir: expected a folder for {name!r}, got None; name the one that holds {_OWN[name]}."
            )
        folder = Path(data_dir).expanduser()
        return load_idx(folder) if name == "idx" else load_pictures(folder, side)
    if name not in TABLE:
        raise ValueError(f"name: expected one of {', '.join(get_args(Name))}, got {name!r}")
    published = TABLE[name]
    if data_dir is not None:
        return _in_folder(published, Path(data_dir).expanduser())
    return _anywhere(published, download, DownloadProgress(name, progress))


def _in_folder(published: Published, data_dir: Path) -> Dataset:
    copy = copies.find_in(published, data_dir)
    if copy is None:
        forms = [layout.marks[0] if layout.folders[0] == "." else layout.folders[0] for layout in published.layouts]
        raise FileNotFoundError(
            f"data_dir: expected {data_dir} to hold {published.name} as one of {', '.join(forms)}, got none of them; "
            f"download {_by_hand(published)}, or leave data_dir out."
        )
    return copies.read(published, copy)


def _anywhere(published: Published, download: bool, shown: DownloadProgress) -> Dataset:
    home = cache_dir() / published.name
    if (copy := copies.find_whole(published, home)) is not None:
        return copies.read(published, copy)
    failures = []
    for place in copies.usual_places():
        for copy in copies.find_below(published, place):
            try:
                dataset = copies.read(published, copy)
            except (OSError, ValueError, ModuleNotFoundError) as error:
                shown.say(f"{published.name}: the copy in {copy.folder} cannot be read: {error}")
                failures.append(str(error))
            else:
                shown.say(f"{published.name}: read from {copy.folder}")
                return dataset
    advice = (
        f"Download {_by_hand(published)} by hand to {home}, or name a folder with a copy with data_dir (--data-dir in "
        "the experiments); the environment variable JAXNN_DATA moves the cache."
    )
    failures += _download(published, home, shown) if download else []
    if download and (copy := copies.find_whole(published, home)) is not None:
        return copies.read(published, copy)
    told = "".join(f"\n  {failure}" for failure in failures)
    if download:
        raise DownloadError(f"{published.name}: expected one of these to have it, got none:{told}\n{advice}")
    raise FileNotFoundError(f"{home}: expected {published.name}, since download=False, got none.{told}\n{advice}")


def _download(published: Published, home: Path, shown: DownloadProgress) -> list[str]:
    """Tries the hosts until one has all files of its form; returns the reasons of those that had not."""
    failures: list[str] = []
    slow: list[tuple[float, Host]] = []

    def turns() -> Iterator[tuple[Host, int]]:
        yield from ((host, _SLOWEST) for host in published.hosts)
        yield from ((host, 0) for _, host in sorted(slow, key=lambda one: -one[0]))

    for host, slowest in turns():
        shown.say(f"{published.name}: downloading from {host.url}")
        try:
            _fetch_all(host, home, shown.enabled, slowest)
            break
        except FailedError as failure:
            shown.say(f"{published.name}: {failure}")
            if failure.rate is None:
                failures.append(str(failure))
            else:
                slow.append((failure.rate, host))
        except OSError as error:  # a full disk, or a folder without write permission: no other host helps
            failures.append(str(error))
            break
    return failures


def _fetch_all(host: Host, home: Path, progress: bool, slowest: int) -> None:
    for file in host.layout.files:
        url = host.url + file.name
        shown = DownloadProgress(f"{file.name} from {urlsplit(url).hostname}", progress)
        try:
            attempts = 2 if slowest else 4  # no other host has it
            fetch(url, home / file.name, file, shown, attempts=attempts, timeout=_TIMEOUT, slowest=slowest)
        except FailedError as failure:
            raise FailedError(f"{url}: {failure}", may_help=False, rate=failure.rate) from failure
        except ValueError as error:  # there is another file
            raise FailedError(str(error), may_help=False) from error


def _by_hand(published: Published) -> str:
    """The addresses of the published files; of each form, the first host's."""
    told: dict[tuple[str, ...], str] = {}
    for host in published.hosts:
        names = tuple(file.name for file in host.layout.files)
        told.setdefault(names, host.url + names[0] if len(names) == 1 else f"{', '.join(names)} from {host.url}")
    return " or ".join(told.values())
