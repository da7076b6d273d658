"""What every experiment's command line shares: options from a dataclass, and errors in a sentence."""

import dataclasses
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from experiments import config_file
from jaxnn import extras

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
    try:
        arguments = _from_files(sys.argv[1:], options)
    except (ValueError, ImportError) as error:
        sys.exit(f"error: {error}")
    # What has no default, the runs to compare for instance, is typed without its name.
    try:
        try:
            parsed = tyro.cli(
                options, description=description, args=arguments, config=(tyro.conf.PositionalRequiredArgs,)
            )
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the help has seen enough of it: `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that nothing is left to flush at exit
        sys.exit()
    try:
        main(parsed)
    except (ValueError, OSError, ImportError) as error:
        _end(f"error: {error}")
    except (RuntimeError, MemoryError) as error:
        from jaxnn.train import NonFiniteLossError, ProcessLostError
        from jaxnn.train.shortage import shortage

        if what := shortage(error):
            _end(f"error: {what}; try {_smaller(options)}")
        if not isinstance(error, NonFiniteLossError | ProcessLostError):
            _end_with_traceback()
            raise
        _end(f"stopped: {error}")
    except KeyboardInterrupt as error:
        from jaxnn.train import Interrupted

        if isinstance(error, Interrupted):
            print(f"{error}; {_how_to_resume(error.folder)}", file=sys.stderr)
            sys.exit(128 + error.signal)
        _end("stopped by Ctrl-C; what was measured so far is in the run folder", 128 + signal.SIGINT)
    except Exception:
        _end_with_traceback()
        raise


def _from_files(typed: list[str], options: type) -> list[str]:
    """What was typed, after the options of the run to --resume and then of the --config files: what is last wins."""
    rest, files = _take(typed, "--config")
    before = [argument for file in files for argument in config_file.arguments(Path(file), options)]
    if any(field.name == "resume" for field in dataclasses.fields(options)):
        resumed = _take([*before, *rest], "--resume")[1][-1:]
        before = [a for run in resumed for a in config_file.arguments(Path(run) / "config.json", options)] + before
    return [*before, *rest]


def _smaller(options: type) -> str:
    """The options that make a run need less memory, those of them that it has."""
    names = {field.name for field in dataclasses.fields(options)}
    flags = ["--" + name.replace("_", "-") for name in ("batch_size", "at_once", "streams", "hidden") if name in names]
    return f"a smaller {' or '.join(flags)}" if flags else "smaller batches or a smaller network"


def _how_to_resume(checkpoints: Path) -> str:
    """What to type to go on: the run folder is the one that holds the options."""
    from jaxnn.train.environment import program_line

    run = next((folder for folder in checkpoints.parents if (folder / "config.json").exists()), checkpoints)
    if _one_of_several():
        return f"to go on from the last checkpoint, start every process again with {shlex.join(['--resume', str(run)])}"
    return f"to go on from the last checkpoint: {shlex.join([*(program_line() or []), '--resume', str(run)])}"


def _take(arguments: list[str], flag: str) -> tuple[list[str], list[str]]:
    """The arguments without a flag and its values, and those values."""
    rest, values = [], []
    left = iter(arguments)
    for argument in left:
        if argument.startswith(flag + "="):
            values.append(argument.removeprefix(flag + "="))
        elif argument == flag:
            value = next(left, "--")
            if value.startswith("--"):
                raise ValueError(f"{flag} needs a value")
            values.append(value)
        else:
            rest.append(argument)
    return rest, values


def _end(message: str, status: int = 1) -> NoReturn:
    """Ends the process; one of several at once, so that the others learn of it and nobody waits for nobody."""
    if _one_of_several():
        from jaxnn.train import distributed

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
