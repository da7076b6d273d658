"""A data set by its name, as a command line gives it."""

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
        data_dir: where the files are: needed for `"idx"`, optional for `"cifar10"` (see `load_cifar10`), not
            for `"digits"`, which has no files.
        download: whether `"cifar10"` may be fetched.
        progress: show a bar on stderr while it is.

    Raises:
        ValueError: there is no such name, or `data_dir` is missing or makes no sense. What the loader itself
            raises passes through.

    Example:
        >>> load("digits").train.images.shape
        (1438, 8, 8, 1)
        >>> load("mnist")
        Traceback (most recent call last):
            ...
        ValueError: name must be one of 'digits', 'cifar10', 'idx'; got 'mnist'
    """
    if name == "digits":
        if data_dir is not None:
            raise ValueError(
                f"data_dir has no meaning for 'digits', which come with scikit-learn: "
                f"leave it out, or load 'cifar10' or 'idx'; got {os.fspath(data_dir)!r}"
            )
        return load_digits()
    if name == "cifar10":
        return load_cifar10(data_dir, download=download, progress=progress)
    if name == "idx":
        if data_dir is None:
            raise ValueError("data_dir is needed for 'idx': the folder that holds train-images-idx3-ubyte and the like")
        return load_idx(data_dir)
    raise ValueError(f"name must be one of {', '.join(map(repr, get_args(Name)))}; got {name!r}")
