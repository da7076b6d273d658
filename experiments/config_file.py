"""Options out of a file: TOML, YAML, or the config.json of a run, as the command line that says the same."""

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

from jaxnn import extras


def arguments(path: Path, options: type) -> list[str]:
    """The command line that a file of options stands for; what a person types after it wins.

    Args:
      path: a file of names and values that ends with .toml, .yaml, .yml or .json; names with - or _.
      options: the dataclass whose fields are the options.

    Raises:
      ValueError: the file cannot be read, or an option in it does not exist or cannot have that value.
    """
    known = {field.name: field for field in dataclasses.fields(options)}
    result: list[str] = []
    for written, value in _read(path).items():
        name = str(written).replace("-", "_")
        if name not in known:
            raise ValueError(f"{path}: there is no option {written!r}; there are {', '.join(sorted(known))}")
        flag, field = "--" + name.replace("_", "-"), known[name]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{path}: {written} is typed, without a name, and cannot be in a file")
        if field.type is bool and not isinstance(value, bool):
            raise ValueError(f"{path}: {written} must be true or false, not {value!r}")
        if field.type is not bool and isinstance(value, bool):
            raise ValueError(f"{path}: {written} must have a value, not true or false")
        if isinstance(value, bool):
            result.append(flag if value else "--no-" + flag.removeprefix("--"))
        elif isinstance(value, list | tuple):
            result += [flag, *map(str, value)]
        elif isinstance(value, dict):
            raise ValueError(f"{path}: {written} must be one value or a list, not a table")
        else:
            result.append(f"{flag}={value}")
    return result


def _read(path: Path) -> dict[str, Any]:
    try:
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
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
