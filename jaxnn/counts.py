"""Arguments that are numbers: whole ones, which count something, and others."""

import math
import operator
from typing import Any

import numpy as np


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Reads an argument that counts something.

    Args:
        name: The argument, for the message.
        value: An int, or what Python takes for one: NumPy's integers too, but no bool and no float.
        least: The smallest number that makes sense.

    Returns:
        The number as an int.

    Raises:
        ValueError: If it is no whole number, or below `least`.

    Example:
        >>> import numpy as np
        >>> from jaxnn.counts import check_count
        >>> check_count("epochs", np.int64(3))
        3
        >>> check_count("epochs", 1.5)
        Traceback (most recent call last):
            ...
        ValueError: epochs: expected a whole number of at least 1, got 1.5
    """
    number = whole(value)
    if number is None or number < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return number


def check_not_negative(**numbers: float) -> None:
    """Raises unless arguments are finite and not negative."""
    for name, value in numbers.items():
        try:
            fits = bool(0 <= value < math.inf)
        except TypeError:
            fits = False
        if not fits:
            raise ValueError(f"{name}: expected a finite number that is not negative, got {value!r}")


def whole(value: Any) -> int | None:
    """Converts to int what Python accepts as an index; returns None for a bool and for anything else."""
    if isinstance(value, bool | np.bool_):  # True is an int
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
