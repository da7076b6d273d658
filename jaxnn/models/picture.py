"""What the networks on pictures take for the shape of one."""

import operator
from collections.abc import Sequence


def check_picture(picture: Sequence[int], least: int) -> tuple[int, int, int]:
    """Checks the shape of a picture.

    Args:
        picture: Height, width and channels.
        least: The smallest height and width that the network takes.

    Returns:
        Height, width and channels.

    Raises:
        ValueError: If it is no such shape, or smaller.
    """
    try:
        height, width, channels = (operator.index(n) for n in picture)
    except (TypeError, ValueError):
        height = width = channels = 0
    if min(height, width) < least or channels < 1:
        raise ValueError(
            f"picture must be (height, width, channels), at least {least}x{least} with one channel, not {picture!r}"
        )
    return height, width, channels
