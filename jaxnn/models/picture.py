"""The shape of the pictures that a network takes."""

import operator
from collections.abc import Sequence

import jax

from jaxnn.functional.arguments import array, channels_advice


def check_picture(picture: Sequence[int], least: int) -> tuple[int, int, int]:
    """Checks the shape of a picture.

    Args:
        picture: Height, width and channels.
        least: The smallest height and width that the network takes.

    Returns:
        Height, width and channels.

    Raises:
        ValueError: If `picture` is not such a shape, or is smaller.
    """
    try:
        height, width, channels = (operator.index(n) for n in picture)
    except (TypeError, ValueError):
        height = width = channels = 0
    if min(height, width) < least or channels < 1:
        raise ValueError(
            f"picture: expected (height, width, channels), at least {least}x{least} with one channel, got {picture!r}; "
            "grey pictures have one channel."
        )
    return height, width, channels


def check_images(x: jax.typing.ArrayLike, picture: tuple[int, int, int]) -> jax.Array:
    """Returns pictures as an array; raises if they have another shape than that of the network."""
    x = array("x", x)
    if x.shape[-3:] != picture:
        height, width, channels = picture
        advice = channels_advice(x.shape, 2, channels) or f"make the network for pictures of {x.shape[-3:]}"
        raise ValueError(f"x: expected (*batch, {height}, {width}, {channels}), got {x.shape}; {advice}.")
    return x
