"""Where the parts of a batch are, in tuples, dictionaries and objects."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

Place = str | int
"""A key of a dictionary, an attribute of an object, or a position in a tuple."""

NAMES: dict[str, tuple[str, ...]] = {
    "inputs": ("inputs", "input", "images", "image", "x"),
    "targets": ("targets", "target", "labels", "label", "y"),
    "lengths": ("lengths", "length"),
    "label_lengths": ("label_lengths", "target_lengths"),
    "mask": ("mask",),
}
"""The names under which a part of a batch is found where the user gives none."""

_POSITIONS = {"inputs": 0, "targets": 1}


def find(batch: Any, part: str, given: Place | None = None, option: str | None = None) -> Place | None:
    """Finds a part of a batch.

    A tuple or list of two is `(inputs, targets)`. In a dictionary, a NamedTuple, a dataclass or another object the part
    has one of the names in `NAMES`. A single array is its own inputs.

    Args:
        batch: The batch, any pytree.
        part: A key of `NAMES`.
        given: Where the user says it is.
        option: The name of the argument `given` to the user; `part` by default.

    Returns:
        The place, for `get` and `replace`; None for the whole batch.

    Raises:
        ValueError: If there is no such part, or more than one name fits.

    Example:
        >>> import numpy as np
        >>> from jaxnn.train.losses import fields
        >>> images, labels = np.zeros((4, 8, 8, 1)), np.zeros(4, int)
        >>> fields.find((images, labels), "targets"), fields.find({"image": images, "label": labels}, "targets")
        (1, 'label')
    """
    option = option or part
    if given is not None:
        if not _has(batch, given):
            raise ValueError(f"{option}: expected {_kind(batch)}, got {given!r}")
        return given
    if _is_plain(batch):
        if part in _POSITIONS and len(batch) == 2:
            return _POSITIONS[part]
        raise ValueError(
            f"batch: expected a pair (inputs, targets), got a {type(batch).__name__} of {len(batch)}; give the "
            f"position with {option}=, the first is 0."
        )
    found = candidates(batch, part)
    if len(found) == 1:
        return found[0]
    if not found and part == "inputs" and hasattr(batch, "dtype"):
        return None
    names = _listed(NAMES[part])
    if found:
        raise ValueError(
            f"batch: expected the {option} under one of the names {names}, got {_listed(found)}; say which with "
            f"{option}={found[0]!r}."
        )
    raise ValueError(
        f"batch: expected the {option} under one of the names {names}, got {_kind(batch)}; say which with {option}=, "
        "or pass a pair (inputs, targets)."
    )


def candidates(batch: Any, part: str) -> list[str]:
    """The names of `NAMES[part]` that the batch has; none for tuples without names."""
    return [] if _is_plain(batch) else [name for name in NAMES[part] if _has(batch, name)]


def get(batch: Any, place: Place | None) -> Any:
    """The part at a place that `find` found."""
    if place is None:
        return batch
    if isinstance(batch, Mapping) or (isinstance(place, int) and isinstance(batch, Sequence)):
        return batch[place]  # type: ignore[index]
    return getattr(batch, str(place))


def replace(batch: Any, place: Place | None, value: Any) -> Any:
    """Returns a batch with another part at a place; the given batch does not change.

    Example:
        >>> from jaxnn.train.losses import fields
        >>> fields.replace(("old", 1), 0, "new"), fields.replace({"x": "old", "y": 1}, "x", "new")
        (('new', 1), {'x': 'new', 'y': 1})
    """
    if place is None:
        return value
    if isinstance(batch, dict):
        batch = copy.copy(batch)  # keeps the kind of dictionary, which is part of the tree's structure
        batch[place] = value
        return batch
    if isinstance(batch, Mapping):
        return type(batch)({**batch, place: value})  # type: ignore[call-arg]
    if _is_plain(batch):
        return type(batch)(value if i == place else part for i, part in enumerate(batch))
    if hasattr(batch, "_replace"):
        return batch._replace(**{batch._fields[place] if isinstance(place, int) else place: value})
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return dataclasses.replace(batch, **{str(place): value})
    batch = copy.copy(batch)
    setattr(batch, str(place), value)
    return batch


def spelled(batch: Any, place: Place | None) -> str:
    """The place in Python's syntax, after the name of the batch: `.labels`, `['label']`, `[1]`."""
    if place is None:
        return ""
    return f"[{place!r}]" if isinstance(batch, Mapping) or isinstance(place, int) else f".{place}"


def _has(batch: Any, place: Place) -> bool:
    if isinstance(batch, Mapping):
        return place in batch
    if isinstance(place, int):
        return isinstance(batch, Sequence) and -len(batch) <= place < len(batch)
    return not _is_plain(batch) and hasattr(batch, place)


def _is_plain(batch: Any) -> bool:
    """Whether it is a tuple or list whose elements have no names."""
    return isinstance(batch, tuple | list) and not hasattr(batch, "_fields")


def _kind(batch: Any) -> str:
    """Describes the batch for an error."""
    if isinstance(batch, Mapping):
        return f"a dictionary with the keys {_listed(batch)}"
    if _is_plain(batch):
        return f"a {type(batch).__name__} of {len(batch)}"
    if hasattr(batch, "dtype"):
        return f"one array of shape {batch.shape}"
    names = (
        getattr(batch, "_fields", None)
        or getattr(batch, "__dataclass_fields__", None)
        or getattr(batch, "__dict__", ())
    )
    return f"a {type(batch).__name__} with the names {_listed(names)}"


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "(none)"
