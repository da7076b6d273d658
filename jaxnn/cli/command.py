"""The command line of a script: options from a dataclass, from files and from a run to resume."""

import argparse
import contextlib
import dataclasses
import difflib
import io
import itertools
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jaxnn import extras, train
from jaxnn.cli.checks import check, option
from jaxnn.files import steady_output
from jaxnn.train.run.environment import program_line

Options = TypeVar("Options")
ABOUT = "The option --config FILE reads options from TOML or YAML; typed options take precedence."
SMALLER = ("batch_size", "at_once", "streams", "hidden")
"""Options that take less memory when they are smaller."""


def run(
    main: Callable[[Options], None],
    options: type[Options],
    description: str | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Reads the command line and calls `main` with the options; errors that the user can fix have no traceback.

    Typed options take precedence over the files of `--config`, these over the options of the run to `--resume`, and
    these over the defaults. Exit statuses are those of `train.loop.plain_errors`; a wrong option ends the program with
    2.

    Args:
        main: The script.
        options: A dataclass; its fields are the options, the strings below them their help. A field `resume` is the
            folder of a run whose options are read first. Fields without a default are positional.
        description: The beginning of `--help`, usually `__doc__`.
        arguments: The words of the command line; by default `sys.argv[1:]`.

    Example:
        >>> import dataclasses
        >>> from jaxnn import cli
        >>> @dataclasses.dataclass(frozen=True)
        ... class Options:
        ...     epochs: cli.Count = 10
        ...     flip: bool = False
        >>> cli.run(print, Options, "Learns to read digits.", ["--epochs", "3", "--flip"])
        Options(epochs=3, flip=True)
    """
    names = {field.name for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    smaller = [option(name) for name in SMALLER if name in names]
    with train.loop.plain_errors(f"try a smaller {' or '.join(smaller) or 'network'}"):
        try:
            words = sys.argv[1:] if arguments is None else list(arguments)
            parsed = _parsed(words, options, _flowing(f"{description or ''}\n\n{ABOUT}"))
        except (ValueError, argparse.ArgumentError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        steady_output()
        main(parsed)


def _flowing(text: str) -> str:
    """Joins the lines of each paragraph, but not of indented ones and lists; tyro would break some of them again."""
    paragraphs = re.split(r"\n\s*\n", text.strip("\n"))
    kept = [paragraph.startswith((" ", "-")) for paragraph in paragraphs]
    lines = [text if keep else " ".join(text.split()) for text, keep in zip(paragraphs, kept, strict=True)]
    return "".join(("\n" if keep else "\n\n") + line for line, keep in zip(lines, kept, strict=True)).lstrip("\n")


def _parsed(words: list[str], options: type[Options], description: str) -> Options:
    """The options of a command line, over those of files, of a run to resume, and the defaults."""
    fields: tuple[Any, ...] = dataclasses.fields(options)  # type: ignore[arg-type]
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    reader.add_argument("--config", type=Path, action="append", default=[])
    if any(field.name == "resume" for field in fields):
        reader.add_argument("--resume", type=Path)
    for before, word in itertools.pairwise(["", *words]):
        flag, equals, value = word.partition("=")
        if not word or (flag.startswith("--") and equals and not value):
            raise ValueError(f"{flag or before}: expected a value, got ''")
    given, words = reader.parse_known_args(words)
    with extras.needed("jaxnn.cli: tyro", "experiments"):
        import tyro
    no_default = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    default = _with_files(options(**dict.fromkeys(no_default, tyro.MISSING)), given.config)
    resumed = getattr(given, "resume", None) or getattr(default, "resume", None)
    if resumed is not None:
        default = _with_files(default, [resumed / "config.json", *given.config])
        default = dataclasses.replace(default, resume=resumed)  # type: ignore[type-var]
    module = options.__module__.removesuffix(".__main__")
    program = shlex.join(program_line() or ["python"]) if module == "__main__" else f"python -m {module}"
    config = (tyro.conf.PositionalRequiredArgs,)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            return tyro.cli(options, args=words, default=default, prog=program, description=description, config=config)
        except SystemExit as error:
            if error.code:
                raise ValueError(_sentence(said.getvalue()).removesuffix(".") + _advice(words, default)) from None
            sys.stdout.flush()
            raise
        except BrokenPipeError:  # the reader of the help has closed the pipe, as `--help | head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush at exit
            sys.exit()


def _with_files(options: Options, paths: list[Path]) -> Options:
    """The options with those of some files; of several, the last wins. An error names the file."""
    for path in paths:
        options = train.run.load_config(path, options)
        try:
            check(options)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return options


def _advice(words: list[str], default: Any) -> str:
    """Says which option is like an unknown one, or how to type several values where they are typed with commas."""
    known = [
        option(field.name)
        for field in dataclasses.fields(default)
        if not field.default is field.default_factory is dataclasses.MISSING  # those are given without a name
    ]
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag, _, word = word.partition("=")
            plain = flag.replace("_", "-").replace("--no-", "--")
            if plain not in known and (like := difflib.get_close_matches(plain, known, 1)):
                return f"; the option is {like[0]}"
        if "," in word and isinstance(getattr(default, flag[2:].replace("-", "_"), None), tuple):
            return f"; separate values by spaces: {flag} {word.replace(',', ' ')}"
    return ""


def _sentence(box: str) -> str:
    """The text of tyro between the title and the next rule, without the box around, as one line."""

    def is_rule(line: str) -> bool:
        return not line.strip("─-")

    lines = [line.strip("│ ") for line in box.strip().splitlines()[1:]]
    said = itertools.takewhile(lambda line: not is_rule(line), itertools.dropwhile(is_rule, lines))
    return textwrap.shorten(" ".join(said), 300, placeholder=" ...")
