"""`mnist.npz`, the form in which Keras keeps MNIST."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxnn.data.dataset import Examples
from jaxnn.data.published import Part, Published


def read_npz(folder: Path, part: Part, published: Published) -> Examples:
    """Reads the arrays `x_train`, `y_train`, `x_test` and `y_test`; objects, which are pickled, are refused."""
    path = folder / f"{published.name}.npz"
    try:
        # Opened here, since NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: expected a whole .npz file with x_{part} and y_{part}, got {error}; download it again."
        ) from error
    if images.ndim != 3 or images.dtype != np.uint8 or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{path}: expected x_{part} (N, H, W) of uint8 and y_{part} (N,) of integers, got {images.shape} of "
            f"{images.dtype} and {labels.shape} of {labels.dtype}; download it again."
        )
    return Examples(images[..., None], labels.astype(np.int32))
