"""Text of nested values that shows arrays by dtype and shape: `print(state)` is read at a glance."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

WIDTH = 100
"""Characters of a line, beyond which a value takes a line for each of its parts."""
FEW = 12
"""Names and numbers of a tuple or list that are shown; of a longer one the first three."""


def text(value: Any) -> str:
    """Returns the `repr` of a value, with arrays by dtype and shape.

    Named tuples, tuples, lists and dictionaries are followed. An object with a `shape` and a `dtype` is an array.

    Example:
        >>> import numpy as np
        >>> from jaxnn import shapes
        >>> shapes.text({"w": np.zeros((3, 2), np.float32), "steps": [np.int32(4), None]})
        "{'w': float32[3,2], 'steps': [4, None]}"
    """
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return call(type(value).__name__, zip(value._fields, value, strict=True))
    if isinstance(value, Mapping):
        return _joined("{", [f"{key!r}: {text(part)}" for key, part in value.items()], "}")
    if isinstance(value, tuple | list):
        opened, closed = ("[", "]") if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        if len(value) > FEW and all(isinstance(part, str | int | float) for part in value):
            return f"{opened}{', '.join(map(repr, value[:3]))}, ... {len(value)} in all{closed}"
        return _joined(opened, [text(part) for part in value], closed)
    if isinstance(value, np.generic):
        return str(value)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return repr(value) if shape is None or dtype is None else f"{dtype}[{','.join(map(str, shape))}]"


def call(name: str, fields: Iterable[tuple[str, Any]]) -> str:
    """Returns the text of a call that makes a value: `name(field=..., field=...)`."""
    return _joined(f"{name}(", [f"{field}={text(part)}" for field, part in fields], ")")


def shown(kind: type[T]) -> type[T]:
    """Gives a named tuple a `repr` that shows arrays by dtype and shape; a decorator.

    Example:
        >>> from typing import Any, NamedTuple
        >>> import numpy as np
        >>> from jaxnn import shapes
        >>> @shapes.shown
        ... class Pair(NamedTuple):
        ...     left: Any
        ...     right: Any
        >>> Pair(np.zeros((3, 2)), None)
        Pair(left=float64[3,2], right=None)
    """
    representation: Callable[[T], str] = text
    kind.__repr__ = representation  # type: ignore[method-assign, assignment]
    return kind


def _joined(opened: str, parts: list[str], closed: str) -> str:
    line = f"{opened}{', '.join(parts)}{closed}"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    inside = ",\n".join(parts).replace("\n", "\n  ")
    return f"{opened}\n  {inside},\n{closed.removeprefix(',')}"
