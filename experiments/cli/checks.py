"""Checks of options: a wrong one is named as it is typed, before any work is done or a folder made."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, get_args

MOST = 2**31 - 1
"""The largest count: JAX counts in int32."""


class Bound(NamedTuple):
    """The values that an option may have, in its annotation.

    Attributes:
        what: The values, in words.
        right: Whether a value is one of them.
    """

    what: str
    right: Callable[[Any], bool]


_INT32 = Bound(f"a whole number of at most {MOST}", lambda n: n <= MOST)
Natural = Annotated[int, Bound("a whole number of at least 0", lambda n: n >= 0), _INT32]
Count = Annotated[int, Bound("a whole number of at least 1", lambda n: n >= 1), _INT32]
Several = Annotated[int, Bound("a whole number of at least 2", lambda n: n >= 2), _INT32]
Number = Annotated[float, Bound("a finite number that is not negative", lambda x: 0 <= x < math.inf)]
Positive = Annotated[float, Bound("a finite positive number", lambda x: 0 < x < math.inf)]
Share = Annotated[float, Bound("a number from 0 to below 1", lambda x: 0 <= x < 1)]


def check(options: Any) -> None:
    """Raises a ValueError that names the first option whose value its annotation does not allow."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            for bound in _bounds(field.type):
                expect(field.name, each, each is None or bound.right(each), bound.what)


def _bounds(annotation: Any) -> list[Bound]:
    if isinstance(annotation, Bound):
        return [annotation]
    return [bound for part in get_args(annotation) for bound in _bounds(part)]


def option(name: str) -> str:
    """How a field of a dataclass of options is typed: `batch_size` as `--batch-size`."""
    return "--" + name.replace("_", "-")


def expect(name: str, value: Any, right: bool, what: str) -> None:
    """Raises a ValueError that names the option unless its value is right.

    Args:
        name: The field.
        value: Its value.
        right: Whether that serves.
        what: What is expected of it, and what to do otherwise if that is not plain.

    Example:
        >>> from experiments.cli.checks import expect
        >>> expect("weight_decay", -1.0, False, "a number that is not negative")
        Traceback (most recent call last):
            ...
        ValueError: --weight-decay: expected a number that is not negative, got -1.0
    """
    if not right:
        wanted, semicolon, advice = what.partition("; ")
        raise ValueError(f"{option(name)}: expected {wanted}, got {value}{semicolon}{advice}{'.' if advice else ''}")


def steps_of(epochs: int, examples: int, batch_size: int) -> int:
    """The steps of a run; raises where int32 cannot count them."""
    each = -(-examples // batch_size)
    expect("epochs", epochs, epochs * each <= MOST, f"at most {MOST // each} epochs of {each} steps")
    return epochs * each


@contextlib.contextmanager
def as_typed(**options: str) -> Iterator[None]:
    """Gives errors of the library the names of options: `as_typed(scale="--l2")` turns `scale: ...` into `--l2: ...`.

    Args:
        **options: The option by the argument of the library.
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        # Arguments are named before the first colon.
        about, *rest = re.split("(?=:)", str(error), maxsplit=1)
        named = re.sub(r"\w+", lambda word: options.get(word[0], word[0]), about)
        if named == about:
            raise
        kind = ValueError if isinstance(error, ValueError) else FileNotFoundError
        raise kind(named + "".join(rest)) from error
