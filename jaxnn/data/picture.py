"""One picture file as people see it: upright, opaque, in colours of 8 bits; read without trusting the file."""

import os
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from jaxnn import extras

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error)
"""Exceptions of Pillow if a file is not a picture."""


def read_picture(path: str | os.PathLike[str], *, most: int = 2**25) -> npt.NDArray[np.uint8]:
    """Reads a picture file as viewers show it: PNG, JPEG and other formats that Pillow reads.

    It is rotated by its EXIF data, transparent pixels become white, and grey of 16 bits is scaled to 8 bits.

    Args:
        path: The file.
        most: The largest number of pixels; a larger picture is rejected before it is decoded.

    Returns:
        The colours, uint8 `(height, width, 3)`; a grey picture has three equal channels.

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If Pillow is not installed.
        ValueError: If the file is damaged or not a picture, or has more than `most` pixels or 32 bits per channel; the
            message names it.

    Example:
        >>> from PIL import Image
        >>> from jaxnn import data
        >>> Image.new("L", (40, 20), 7).save("grey.png")
        >>> data.read_picture("grey.png").shape
        (20, 40, 3)
    """
    return np.asarray(decode(path, most=most))


def decode(path: str | os.PathLike[str], stated: tuple[Any, Any] = (None, None), *, most: int = 2**27) -> Any:
    """Returns a picture of Pillow, of mode RGB, as `read_picture` describes.

    Args:
        path: The file.
        stated: Known width and height; if they fit only before the turn, the picture is not turned.
        most: The largest number of pixels.
    """
    name = os.fspath(path)
    with extras.needed(f"{name}: Pillow, which reads pictures,", "experiments"):
        from PIL import Image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                width, height = opened.size
                picture = None if width * height > most else _upright(opened, stated)
        if picture is not None and picture.mode not in ("I", "F"):
            return _in_eight_bits(picture)
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: expected a picture, got no such file") from None
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: expected a picture, got what cannot be read as one: {error}") from None
    if picture is None:
        raise ValueError(f"{name}: expected at most {most:,} pixels, got {width}x{height}; make it smaller.")
    raise ValueError(f"{name}: expected 8 or 16 bits a channel, got 32, whose range is unknown; convert it.")


def _upright(opened: Any, stated: tuple[Any, Any]) -> Any:
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(opened)
    return opened.copy() if opened.size == stated != turned.size else turned


def _in_eight_bits(picture: Any) -> Any:
    """Without transparency; Pillow's own conversion would cut 16 bits off at 255 and show what is transparent."""
    from PIL import Image

    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")
