"""What every experiment's command line shares: options from a dataclass, and errors in a sentence."""

import contextlib
import dataclasses
import io
import os
import re
import reprlib
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from experiments.cli import config_file
from experiments.cli.checks import option
from experiments.cli.config_file import Given, expected
from jaxnn import extras
from jaxnn.files import steady_output

Options = TypeVar("Options")


def run(main: Callable[[Options], None], options: type[Options], description: str | None) -> None:
    """Reads the command line into `options` and calls `main`; what a person can mend is told without a traceback.

    Args:
      main: the experiment.
      options: a dataclass; its fields are the options, the strings below them their help.
      description: what `--help` starts with.
    """
    try:
        import tyro
    except ImportError:
        sys.exit(f"error: the experiments need more packages: {extras.install('experiments')}")
    about = "A file of options, TOML or YAML, can be given with --config FILE; what is typed wins."
    description = f"{description or ''}\n\n{about}"
    # What has no default, the runs to compare for instance, is typed without its name.
    parse = partial(tyro.cli, options, prog=_program(options), config=(tyro.conf.PositionalRequiredArgs,))
    given: list[Given] = []
    try:
        given = _given(sys.argv[1:], options)
        parsed: Options = _read(given, options, partial(parse, description=description))
    except (ValueError, ImportError) as error:
        _end(f"error: {error}", 2)
    except BrokenPipeError:  # whoever reads the help has seen enough of it: `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that nothing is left to flush at exit
        sys.exit()
    steady_output()
    try:
        main(parsed)
    except ValueError as error:
        _end(f"error: {_with_its_file(str(error), given)}", 2 if str(error).startswith("--") else 1)
    except (OSError, ImportError) as error:
        _end(f"error: {error}")
    except (RuntimeError, MemoryError) as error:
        from jaxnn.train.devices import ProcessLostError
        from jaxnn.train.devices.shortage import shortage
        from jaxnn.train.loop import NonFiniteLossError

        if what := shortage(error):
            _end(f"error: {what}; try {_smaller(options)}")
        if not isinstance(error, NonFiniteLossError | ProcessLostError):
            _end_with_traceback()
            raise
        _end(f"stopped: {error}")
    except KeyboardInterrupt as error:
        from jaxnn.train.checkpoint import Interrupted

        if isinstance(error, Interrupted):
            print(f"{error}; {_how_to_resume(error.folder)}", file=sys.stderr)
            sys.exit(128 + error.signal)
        _end("stopped by Ctrl-C; what was measured so far is in the run folder", 128 + signal.SIGINT)
    except Exception:
        _end_with_traceback()
        raise


def _program(options: type) -> str:
    """How the experiment is started, whatever path Python found it by."""
    from jaxnn.train.run.environment import program_line

    if options.__module__ == "__main__":
        return shlex.join(program_line() or ["python"])
    return f"python -m {options.__module__.removesuffix('.__main__')}"


def _given(typed: list[str], options: Any) -> list[Given]:
    """What was typed, after the options of the run to --resume and then of the --config files: what is last wins."""
    starts = [place for place, word in enumerate(typed) if word.startswith("--")]
    groups = [typed[start:end] for start, end in zip([0, *starts], [*starts, len(typed)], strict=True)]
    files: list[Given] = []
    given: list[Given] = []
    for each in (Given(words) for words in groups if words):
        if each.flag != "--config":
            given.append(each)
            continue
        if not each.values:
            raise ValueError("--config needs a value")
        files += config_file.read(Path(each.values[0]), options)
        given += [Given(each.values[1:])] if each.values[1:] else []  # what is typed without a name
    given = files + given
    fields = {option(field.name): field for field in dataclasses.fields(options)}
    for each in given:
        if each.flag in fields and "Path" in str(fields[each.flag].type) and "" in each.values:
            raise ValueError(f"{each.name}: expected a path, got ''")
    runs = [each for each in given if each.flag == "--resume" and each.flag in fields]
    for run in runs[-1:]:
        if not run.values:
            raise ValueError("--resume needs a value")
        given = config_file.read(Path(run.values[0]) / "config.json", options) + given
    return given


def _read(given: list[Given], options: Any, parse: Callable[..., Options]) -> Options:
    """The options; where a value cannot be one, a ValueError says so in a sentence, and tyro whatever else is wrong."""
    fields = {option(field.name): field for field in dataclasses.fields(options)}
    words = [word for each in given for word in each.words]
    try:
        with contextlib.redirect_stderr(io.StringIO()) as told:
            return parse(args=words)
    except SystemExit as error:
        for each in given if error.code else ():
            if each.flag in fields and each.values and not _parses(parse, each.words) and _parses(parse, []):
                shown = " ".join(map(reprlib.repr, each.values))
                raise ValueError(f"{each.name}: expected {expected(fields[each.flag].type)}, got {shown}") from None
        print(told.getvalue(), end="", file=sys.stderr)
        raise
    finally:
        sys.stdout.flush()


def _parses(parse: Callable[..., Any], words: list[str]) -> bool:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            parse(args=words)
        except SystemExit as error:
            return not error.code
    return True


def _with_its_file(message: str, given: list[Given]) -> str:
    """An error about an option, with the file and the name that its value has there, if it is from a file."""
    named = re.match(r"--[\w-]+", message)
    last = next((each for each in reversed(given) if named and each.flag == named[0]), None)
    return last.name + message[len(last.flag) :] if last is not None else message


def _smaller(options: type) -> str:
    """The options that make a run need less memory, those of them that it has."""
    names = {field.name for field in dataclasses.fields(options)}
    flags = ["--" + name.replace("_", "-") for name in ("batch_size", "at_once", "streams", "hidden") if name in names]
    return f"a smaller {' or '.join(flags)}" if flags else "smaller batches or a smaller network"


def _how_to_resume(checkpoints: Path) -> str:
    """What to type to go on: the run folder is the one that holds the options."""
    from jaxnn.train.run.environment import program_line

    run = next((folder for folder in checkpoints.parents if (folder / "config.json").exists()), checkpoints)
    if _one_of_several():
        return f"to go on from the last checkpoint, start every process again with {shlex.join(['--resume', str(run)])}"
    return f"to go on from the last checkpoint: {shlex.join([*(program_line() or []), '--resume', str(run)])}"


def _end(message: str, status: int = 1) -> NoReturn:
    """Ends the process; one of several at once, so that the others learn of it and nobody waits for nobody."""
    if _one_of_several():
        from jaxnn.train.devices import distributed

        distributed.leave(message, status)
    if status == 1:
        sys.exit(message)
    print(message, file=sys.stderr)
    sys.exit(status)


def _end_with_traceback() -> None:
    if _one_of_several():
        _end(traceback.format_exc())


def _one_of_several() -> bool:
    import jax

    return jax.distributed.is_initialized()
