"""Checks of options: an error names the option as it is typed, before any work is done or a folder made."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, get_args

MOST = 2**31 - 1
"""The largest count: JAX counts in int32."""


class Bound(NamedTuple):
    """An annotation of the values that an option may have; `check` reads it.

    Args:
        what: The allowed values, in words; after a semicolon, what to do instead.
        right: Function that tells whether a value is allowed.

    Example:
        >>> from typing import Annotated
        >>> from jaxnn import cli
        >>> Probability = Annotated[float, cli.Bound("a probability above 0, at most 1", lambda p: 0 < p <= 1)]
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
    """Checks that each option has a value that its annotation allows.

    Args:
        options: A dataclass; `Bound`s in its annotations define the allowed values. None is allowed if the type has it;
            each element of a tuple is checked.

    Raises:
        ValueError: If a value is not allowed; the message names the first such option.

    Example:
        >>> import dataclasses
        >>> from jaxnn import cli
        >>> @dataclasses.dataclass
        ... class Options:
        ...     batch_size: cli.Count = 32
        >>> cli.check(Options(batch_size=0))
        Traceback (most recent call last):
            ...
        ValueError: --batch-size: expected a whole number of at least 1, got 0
    """
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
    """Returns the option of a field, as it is typed.

    Args:
        name: The field.

    Returns:
        The option.

    Example:
        >>> from jaxnn import cli
        >>> cli.option("batch_size")
        '--batch-size'
    """
    return "--" + name.replace("_", "-")


def expect(name: str, value: Any, right: bool, what: str) -> None:
    """Checks one option whose allowed values depend on other options or on the data.

    Args:
        name: The field.
        value: Its value.
        right: Whether the value is allowed.
        what: The allowed values, in words; after a semicolon, what to do instead.

    Raises:
        ValueError: If `right` is false; it names the option.

    Example:
        >>> from jaxnn import cli
        >>> cli.expect("weight_decay", 0.1, False, "0 for --optimizer adam; --optimizer adamw decays weights")
        Traceback (most recent call last):
            ...
        ValueError: --weight-decay: expected 0 for --optimizer adam, got 0.1; --optimizer adamw decays weights.
    """
    if not right:
        wanted, semicolon, advice = what.partition("; ")
        raise ValueError(f"{option(name)}: expected {wanted}, got {value}{semicolon}{advice}{'.' if advice else ''}")


def unused(options: Any, *names: str, because: str) -> None:
    """Checks that options without effect are at their defaults.

    Args:
        options: A dataclass.
        *names: The fields.
        because: Which other options make them ineffective, in words; after a semicolon, what to do instead.

    Raises:
        ValueError: If one is not; the message names the first such option.

    Example:
        >>> import dataclasses
        >>> from jaxnn import cli
        >>> @dataclasses.dataclass
        ... class Options:
        ...     data: str = "digits"
        ...     resize: cli.Count = 32
        >>> cli.unused(Options(resize=64), "resize", because="without --data folder")
        Traceback (most recent call last):
            ...
        ValueError: --resize: expected nothing without --data folder, got 64
    """
    for field in dataclasses.fields(options):
        if field.name in names:
            value = getattr(options, field.name)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            expect(field.name, shown, value == field.default, f"nothing {because}")


def steps_of(epochs: int, examples: int, batch_size: int) -> int:
    """Counts the steps of a run, for the schedule of a learning rate.

    Args:
        epochs: Passes over the examples.
        examples: The number of examples.
        batch_size: Examples per step; the last batch of an epoch may be shorter.

    Returns:
        The number of steps.

    Raises:
        ValueError: If the number exceeds int32; the message names `--epochs`.

    Example:
        >>> from jaxnn import cli
        >>> cli.steps_of(epochs=10, examples=1437, batch_size=128)
        120
    """
    each = -(-examples // batch_size)
    expect("epochs", epochs, epochs * each <= MOST, f"at most {MOST // each} epochs of {each} steps")
    return epochs * each


@contextlib.contextmanager
def as_typed(**options: str) -> Iterator[None]:
    """Renames the arguments in errors of the library to options.

    Args:
        **options: The option as typed, by the name of the library's argument.

    Yields:
        Nothing.

    Raises:
        ValueError: Names the option, where the library's error names such an argument before its first colon.
        OSError: Likewise; a FileNotFoundError stays one.

    Example:
        >>> from jaxnn import cli, train
        >>> with cli.as_typed(scale="--l2"):
        ...     train.losses.l2(-1.0)
        Traceback (most recent call last):
            ...
        ValueError: --l2: expected a finite number that is not negative, got -1.0
    """
    try:
        yield
    except (ValueError, OSError) as error:
        # Arguments are named before the first colon.
        about, *rest = re.split("(?=:)", str(error), maxsplit=1)
        named = re.sub(r"\w+", lambda word: options.get(word[0], word[0]), about)
        if named == about:
            raise
        kind = next(kind for kind in (ValueError, FileNotFoundError, OSError) if isinstance(error, kind))
        raise kind(named + "".join(rest)) from error
