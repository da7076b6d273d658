"""Data sets by name, as a command line gives it."""

import os
from typing import Literal, TypeAlias, get_args

from jaxnn.data.cifar10 import load_cifar10
from jaxnn.data.dataset import Dataset
from jaxnn.data.digits import load_digits
from jaxnn.data.idx import load_idx

Name: TypeAlias = Literal["digits", "cifar10", "idx"]


def load(
    name: Name,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    progress: bool = True,
) -> Dataset:
    """Loads a data set by name; images are `(N, H, W, C)` uint8, labels `(N,)` int32.

    Args:
        name: `"digits"` (8x8 grey, comes with scikit-learn), `"cifar10"` (32x32 colour) or `"idx"` (a folder
            in MNIST's format).
        data_dir: The folder of the files: required for `"idx"`, optional for `"cifar10"` (see `load_cifar10`), not
            allowed for `"digits"`, which has no files.
        download: Whether `"cifar10"` may be downloaded.
        progress: Whether to show a bar on stderr during the download.

    Returns:
        The data set.

    Raises:
        ValueError: If there is no such name, or `data_dir` is missing or does not apply. Errors of the loader pass
            through.

    Example:
        >>> load("digits").train.images.shape
        (1438, 8, 8, 1)
        >>> load("mnist")
        Traceback (most recent call last):
            ...
        ValueError: name: expected one of 'digits', 'cifar10', 'idx', got 'mnist'
    """
    if name == "digits":
        if data_dir is not None:
            raise ValueError(
                f"data_dir: expected None for 'digits', which scikit-learn contains, got {os.fspath(data_dir)!r}; "
                "leave it out, or load 'cifar10' or 'idx'."
            )
        return load_digits()
    if name == "cifar10":
        return load_cifar10(data_dir, download=download, progress=progress)
    if name == "idx":
        if data_dir is None:
            raise ValueError(
                "data_dir: expected a folder for 'idx', got None; name the one that holds train-images-idx3-ubyte."
            )
        return load_idx(data_dir)
    raise ValueError(f"name: expected one of {', '.join(map(repr, get_args(Name)))}, got {name!r}")
