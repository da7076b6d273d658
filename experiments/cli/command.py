"""The command line of an experiment: options from a dataclass, from files and from a run to resume."""

import argparse
import contextlib
import dataclasses
import io
import itertools
import os
import shlex
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from experiments.cli.checks import check, option
from jaxnn import extras, train
from jaxnn.files import steady_output
from jaxnn.train.run.environment import program_line

Options = TypeVar("Options")
ABOUT = "A file of options, TOML or YAML, can be given with --config FILE; what is typed wins."


def run(main: Callable[[Options], None], options: type[Options], description: str | None) -> None:
    """Reads the command line into `options` and calls `main`; errors that a person can mend have no traceback.

    Args:
        main: The experiment.
        options: A dataclass; its fields are the options, the strings below them their help.
        description: What `--help` starts with.
    """
    names = {field.name for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    smaller = [option(name) for name in ("batch_size", "at_once", "streams", "hidden") if name in names]
    with train.loop.plain_errors(f"try a smaller {' or '.join(smaller) or 'network'}"):
        try:
            parsed = _parsed(sys.argv[1:], options, f"{description or ''}\n\n{ABOUT}")
        except (ValueError, argparse.ArgumentError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        steady_output()
        main(parsed)


def _parsed(words: list[str], options: type[Options], description: str) -> Options:
    """The options: what is typed over the files of --config over those of the run to --resume over the defaults."""
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
    try:
        import tyro
    except ImportError:
        sys.exit(f"error: the experiments need more packages: {extras.install('experiments')}")
    no_default = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    default = with_files(options(**dict.fromkeys(no_default, tyro.MISSING)), given.config)
    resumed = getattr(given, "resume", None) or getattr(default, "resume", None)
    if resumed is not None:
        default = with_files(default, [resumed / "config.json", *given.config])
        default = dataclasses.replace(default, resume=resumed)  # type: ignore[type-var]
    module = options.__module__.removesuffix(".__main__")
    program = shlex.join(program_line() or ["python"]) if module == "__main__" else f"python -m {module}"
    # What has no default, the runs to compare for instance, is typed without its name.
    config = (tyro.conf.PositionalRequiredArgs,)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            return tyro.cli(options, args=words, default=default, prog=program, description=description, config=config)
        except SystemExit as error:
            if error.code:
                raise ValueError(_sentence(said.getvalue())) from None
            sys.stdout.flush()
            raise
        except BrokenPipeError:  # whoever reads the help has seen enough of it: `--help | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush at exit
            sys.exit()


def with_files(options: Options, paths: list[Path]) -> Options:
    """The options with those of some files; of several, the last wins. An error names the file."""
    for path in paths:
        options = train.run.load_config(path, options)
        try:
            check(options)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return options


def _sentence(box: str) -> str:
    """The text of tyro between the title and the next rule, without the box around, as one line."""

    def is_rule(line: str) -> bool:
        return not line.strip("─-")

    lines = [line.strip("│ ") for line in box.strip().splitlines()[1:]]
    said = itertools.takewhile(lambda line: not is_rule(line), itertools.dropwhile(is_rule, lines))
    return textwrap.shorten(" ".join(said), 300, placeholder=" ...")
