"""A configuration from a file: TOML, YAML, or the `config.json` of a run, over the defaults of a dataclass."""

import dataclasses
import json
import os
import reprlib
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from jaxnn import extras

T = TypeVar("T")
_LARGEST = 2**20  # bytes
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path", type(None): "null"}


def load_config(path: str | os.PathLike[str], default: T) -> T:
    """Reads a configuration that `RunFolder.save_config` wrote, or a file in TOML or YAML.

    Command lines that take a dataclass start from the result, for example `tyro.cli(Options, default=result)`.

    Args:
        path: A `.toml`, `.yaml`, `.yml` or `.json` file; names may contain - instead of _.
        default: An instance of a dataclass. Its fields are numbers, texts, paths, choices (`Literal`), tuples of these,
            or None.

    Returns:
        `default` with the values of the file, each of the type of its field.

    Raises:
        ValueError: If the file cannot be read, or holds an unknown name or a value of another type.
        ImportError: If the file is in YAML, and PyYAML is not installed.

    Example:
        >>> import dataclasses
        >>> from pathlib import Path
        >>> from jaxnn import train
        >>> @dataclasses.dataclass
        ... class Options:
        ...     hidden: tuple[int, ...] = (64,)
        ...     run: Path = Path("runs/mlp")
        >>> run = train.RunFolder.create("runs/mlp", Options(hidden=(8, 8)))
        >>> train.run.load_config(run / "config.json", Options()).hidden
        (8, 8)
    """
    path = Path(path)
    kinds = {field.name: field.type for field in dataclasses.fields(default)}  # type: ignore[arg-type]
    given = {}
    for written, value in _read(path).items():
        name = str(written).replace("-", "_")
        if name not in kinds:
            raise ValueError(f"{path}: expected names among {', '.join(sorted(kinds))}, got {written!r}")
        try:
            given[name] = _converted(kinds[name], value)
        except (TypeError, ValueError, OverflowError):
            got = reprlib.repr(value)
            raise ValueError(f"{path}: {written}: expected {_words(kinds[name])}, got {got}") from None
    return dataclasses.replace(default, **given)  # type: ignore[type-var]


def _converted(kind: Any, value: Any) -> Any:
    """The value as this type; a ValueError or TypeError where it is of another."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _converted(kinds[0], value)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in kinds:
            return None
        return _converted(next(each for each in kinds if each is not type(None)), value)
    if origin is tuple and isinstance(value, list):
        return tuple(_converted(kinds[0], each) for each in value)
    if origin is Literal and not isinstance(value, bool) and value in kinds:
        return value
    # YAML takes 1e-3 for a text.
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        return float(value)
    if kind in (Path, str) and isinstance(value, str) and "\0" not in value and (value or kind is str):
        return kind(value)
    if kind in (bool, int) and type(value) is kind:
        return value
    raise TypeError


def _words(kind: Any) -> str:
    """Names the values of a type."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, kinds))}"
    if origin is Annotated:
        return _words(kinds[0])
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, kinds))
    return f"a list, each of it {_words(kinds[0])}" if origin is tuple else _WORDS.get(kind, "a text")


def _read(path: Path) -> dict[str, Any]:
    """The names and values in a file."""
    parsers: dict[str, Callable[[str], Any]]
    parsers = {".toml": tomllib.loads, ".json": json.loads, ".yaml": _yaml, ".yml": _yaml}
    if path.suffix not in parsers:
        raise ValueError(f"{path}: expected a name that ends with .toml, .yaml, .yml or .json, got {path.suffix!r}")
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(text) > _LARGEST:
        raise ValueError(f"{path}: expected at most {_LARGEST:,} bytes of names and values, got more")
    try:
        values = parsers[path.suffix](text.decode())
    except RecursionError:
        raise ValueError(f"{path}: expected names and values, got lists or tables nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: expected names and values, got {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected names and values, got a {type(values).__name__}")
    return values


def _yaml(text: str) -> Any:
    with extras.needed("train.run.load_config: pyyaml", "experiments"):
        import yaml
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
