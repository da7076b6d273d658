"""A picture file, read without trusting it."""

import contextlib
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from jaxnn import extras

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error)
"""Exceptions of Pillow where a file is no picture."""


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Opens a picture with Pillow. An error names the file, also if it shows up while the pixels are read."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{os.fspath(path)}: Pillow, which reads pictures, is not installed; "
            f"install it with: {extras.install('experiments')}"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                yield picture
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise ValueError(f"{os.fspath(path)}: expected a picture, got what cannot be read as one: {error}") from None


def read_picture(path: str | os.PathLike[str], *, most: int = 2**25) -> npt.NDArray[np.uint8]:
    """Reads a picture file: PNG, JPEG and the others that Pillow knows.

    Args:
        path: The file.
        most: The largest number of pixels; a larger picture is refused before it is decoded.

    Returns:
        The colours, uint8 `(height, width, 3)`; a grey picture has three equal ones.

    Raises:
        ValueError: If the file cannot be read as a picture, or it has more pixels; the message names the file.

    Example:
        >>> from PIL import Image
        >>> from jaxnn import data
        >>> Image.new("L", (40, 20), 7).save("grey.png")
        >>> data.read_picture("grey.png").shape
        (20, 40, 3)
    """
    with opened(path) as picture:
        width, height = picture.size
        pixels = None if width * height > most else np.asarray(picture.convert("RGB"))
    if pixels is None:
        raise ValueError(f"{os.fspath(path)}: expected at most {most:,} pixels, got {width}x{height}; make it smaller.")
    return pixels
