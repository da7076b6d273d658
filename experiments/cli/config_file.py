"""Options out of a file: TOML, YAML, or the config.json of a run, as the command line that says the same."""

import dataclasses
import json
import reprlib
import tomllib
import types
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from experiments.cli.checks import option
from jaxnn import extras

LARGEST = 2**20
"""Bytes of a file of options; a larger file is none."""


class Given(NamedTuple):
    """An option as it was given.

    Attributes:
        words: What is typed for it: the flag and its values.
        key: Its name in the file that it is from; None if it was typed.
        path: That file.
    """

    words: list[str]
    key: str | None = None
    path: Path | None = None

    @property
    def flag(self) -> str:
        """`--batch-size`, however it was typed: `--no-flip` is about `--flip`."""
        flag = self.words[0].partition("=")[0].replace("_", "-")
        return "--" + flag.removeprefix("--no-") if flag.startswith("--no-") else flag

    @property
    def values(self) -> list[str]:
        """The words without the flag."""
        _, equals, value = self.words[0].partition("=")
        return [value, *self.words[1:]] if equals else self.words[1:]

    @property
    def name(self) -> str:
        """What to call it in a message: the flag, or file and key."""
        return self.flag if self.path is None else f"{self.path}: {self.key}"


def read(path: Path, options: type) -> list[Given]:
    """The options in a file; what a person types after them wins.

    Args:
      path: a file of names and values that ends with .toml, .yaml, .yml or .json; names with - or _.
      options: the dataclass whose fields are the options.

    Raises:
      ValueError: the file cannot be read, or an option in it does not exist or cannot have that value.
    """
    known = {field.name: field for field in dataclasses.fields(options)}
    result: list[Given] = []
    for written, value in _values(path).items():
        name, where = str(written).replace("-", "_"), f"{path}: {written}"
        if name not in known:
            raise ValueError(f"{path}: there is no option {written!r}; there are {', '.join(sorted(known))}")
        flag, field = option(name), known[name]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where} is typed, without a name, and cannot be in a file")
        if isinstance(value, bool) != (field.type is bool):
            got = str(value).lower() if isinstance(value, bool) else reprlib.repr(value)
            raise ValueError(f"{where}: expected {expected(field.type)}, got {got}")
        if isinstance(value, dict):
            raise ValueError(f"{where}: expected one value or a list, got a table")
        values = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(each, list | tuple | dict | set) for each in values):
            raise ValueError(f"{where}: expected one value or a list of single values, got lists in a list")
        if any("\0" in str(each) for each in values):
            raise ValueError(f"{where}: expected a text, got one with the character NUL")
        words = [flag, *map(str, values)] if values is value else [f"{flag}={value}"]
        if isinstance(value, bool):
            words = [flag if value else "--no-" + flag.removeprefix("--")]
        result.append(Given(words, str(written), path))
    return result


def expected(kind: Any) -> str:
    """What the value of an option of this type is, for messages."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, types.UnionType):
        return expected(next(each for each in get_args(kind) if each is not type(None)))
    if get_origin(kind) is tuple:
        one = get_args(kind)[0]
        return "whole numbers" if one is int else f"for each {expected(one)}"
    return {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}.get(kind, "a text")


def _values(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST:,} bytes")
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            values = tomllib.loads(text)
        elif path.suffix == ".json":
            values = json.loads(text)
        elif path.suffix in (".yaml", ".yml"):
            values = _yaml(text)
        else:
            raise ValueError("its name must end with .toml, .yaml, .yml or .json")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError:
        raise ValueError(f"{path} holds no options: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} holds no options: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no options: expected names and values, got a {type(values).__name__}")
    return values


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError(f"a file of options in YAML needs pyyaml: {extras.install('experiments')}") from error

    class Plain(yaml.SafeLoader):
        """Without aliases: a few lines of them can stand for gigabytes."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise ValueError("an alias (*name) cannot stand for a value; write the value")
            return super().compose_node(parent, index)

    try:
        return yaml.load(text, Plain)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
