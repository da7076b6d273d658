"""What options may be: a wrong one is named as it is typed, before any work is done or a folder made."""

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any

MOST = 2**31 - 1
"""The largest count: JAX counts in int32."""


def option(name: str) -> str:
    """How a field of a dataclass of options is typed: `batch_size` as `--batch-size`."""
    return "--" + name.replace("_", "-")


def expect(name: str, value: Any, right: bool, what: str) -> None:
    """Raises a ValueError that names the option unless its value is right.

    Args:
        name: The field.
        value: What it is.
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
        raise ValueError(f"{option(name)}: expected {wanted}, got {value}{semicolon}{advice}")


def expect_counts(options: Any, *names: str, least: int = 1) -> None:
    """Raises unless each of these fields is a whole number from `least` on, or several, that int32 can hold.

    A field that is None is not asked for.
    """
    for name in names:
        value = getattr(options, name)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None:
                expect(name, each, each >= least, f"a whole number of at least {least}")
                expect(name, each, each <= MOST, f"a whole number of at most {MOST}")


def expect_numbers(options: Any, *names: str) -> None:
    """Raises unless each of these fields is a finite number that is not negative."""
    for name in names:
        value = getattr(options, name)
        expect(name, value, 0 <= value < math.inf, "a finite number that is not negative")


def expect_share(options: Any, *names: str) -> None:
    """Raises unless each of these fields is a number from 0 to below 1."""
    for name in names:
        value = getattr(options, name)
        expect(name, value, 0 <= value < 1, "a number from 0 to below 1")


def steps_of(epochs: int, examples: int, batch_size: int) -> int:
    """The steps of a run; raises where int32 cannot count them."""
    each = -(-examples // batch_size)
    expect("epochs", epochs, epochs * each <= MOST, f"at most {MOST // each} epochs of {each} steps")
    return epochs * each


@contextlib.contextmanager
def as_typed(**options: str) -> Iterator[None]:
    """Gives errors of the library the names that a person typed.

    Args:
        **options: The option by the library's argument, such as `scale="--l2"`.

    Example:
        >>> from experiments.cli.checks import as_typed
        >>> with as_typed(scale="--l2"):
        ...     raise ValueError("scale: expected a finite number that is not negative, got -5")
        Traceback (most recent call last):
            ...
        ValueError: --l2: expected a finite number that is not negative, got -5
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        # Only what stands before the first colon names arguments.
        about, *rest = re.split("(?=:)", str(error), maxsplit=1)
        named = re.sub(r"\b\w+\b", lambda word: options.get(word[0], word[0]), about)
        if named == about:
            raise
        kind = ValueError if isinstance(error, ValueError) else FileNotFoundError
        raise kind(named + "".join(rest)) from error
