"""The pictures that a network is made for."""

import operator
from collections.abc import Sequence

import jax

from jaxnn.functional.arguments import channels_advice


def check_picture(picture: Sequence[int], least: int) -> tuple[int, int, int]:
    """Height, width and channels, or a ValueError that says what a picture's shape is."""
    try:
        height, width, channels = (operator.index(n) for n in picture)
    except (TypeError, ValueError):
        height = width = channels = 0
    if min(height, width) < least or channels < 1:
        raise ValueError(
            f"picture must be (height, width, channels), at least {least}x{least} with one channel, not {picture!r}"
        )
    return height, width, channels


def check_images(x: jax.Array, picture: tuple[int, int, int]) -> None:
    """Raises where pictures are not those that the network was made for."""
    if x.shape[-3:] != picture:
        height, width, channels = picture
        advice = channels_advice(x.shape, 2, channels) or f"make the network for pictures of {x.shape[-3:]}"
        raise ValueError(f"x: expected (*batch, {height}, {width}, {channels}), got {x.shape}; {advice}")
