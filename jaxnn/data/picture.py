"""One picture file as people see it: upright, opaque, in colours of 8 bits."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn import extras

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error)
"""Exceptions of Pillow where a file is no picture."""


def read_picture(path: Path, stated: tuple[Any, Any] = (None, None)) -> Any:
    """Reads a picture file as people see it, where Pillow's own conversion would show other values.

    It is turned as its EXIF data say, what is transparent is white, and grey of 16 bits is scaled to 8 bits.

    Args:
        path: The file.
        stated: Width and height that are known of it; if only those before turning fit, the picture is not turned.

    Returns:
        A picture of Pillow, of mode RGB.

    Raises:
        ModuleNotFoundError: If Pillow is not installed.
        ValueError: If the file is damaged or no picture, or has 32 bits a channel.
        OSError: If there is no such file.
    """
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path}: Pillow, which reads pictures, is not installed; install it with: {extras.install('experiments')}"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                turned = ImageOps.exif_transpose(opened)
                picture = opened.copy() if opened.size == stated != turned.size else turned
            if picture.mode.startswith("I;16"):
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            if picture.has_transparency_data:
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture.convert("RGBA"))
            if picture.mode not in ("I", "F"):
                return picture.convert("RGB")
    except FileNotFoundError:
        raise
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: expected a picture, got what cannot be read as one: {error}") from None
    raise ValueError(f"{path}: expected 8 or 16 bits a channel, got 32, whose range is unknown; convert it.")
