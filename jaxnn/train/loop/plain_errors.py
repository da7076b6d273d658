"""Errors of a training script as one sentence for its user, and as an exit status for its scheduler."""

import contextlib
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import jax

from jaxnn.train.checkpoint.signals import Interrupted
from jaxnn.train.devices import distributed
from jaxnn.train.devices.distributed import ProcessLostError
from jaxnn.train.devices.shortage import shortage
from jaxnn.train.loop.nonfinite import NonFiniteLossError
from jaxnn.train.run.environment import program_line


@contextlib.contextmanager
def plain_errors(advice: str = "use smaller batches or a smaller network") -> Iterator[None]:
    """Ends a script with one sentence instead of a traceback after an error that its user can fix.

    | Error | Output | Exit status |
    |---|---|---|
    | `Interrupted` | the checkpoint, and the command that resumes | 128 + signal |
    | Ctrl-C before | where it was | 130 |
    | `NonFiniteLossError`, `ProcessLostError` | `stopped: ...` | 1 |
    | `ValueError`, `OSError`, `ImportError` | `error: ...` | 1; 2 if it begins with an option, `--epochs: ...` |
    | too little memory | how much is missing, and the advice | 1 |
    | any other | the traceback | 1 |

    One of several processes ends at once, so that the others do not wait for it.

    Args:
        advice: Advice to print if memory is short.

    Example:
        >>> from jaxnn import train
        >>> with train.loop.plain_errors():
        ...     raise ValueError("--epochs: expected a number, got 'ten'")
        Traceback (most recent call last):
            ...
        SystemExit: 2
    """
    try:
        yield
    except Interrupted as stopped:
        print(f"{stopped}; {_how_to_resume(stopped.folder)}", file=sys.stderr)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:
        _end("stopped by Ctrl-C; what was measured so far is in the run folder", 128 + signal.SIGINT)
    except (NonFiniteLossError, ProcessLostError) as error:
        _end(f"stopped: {error}")
    except (ValueError, OSError, ImportError) as error:
        _end(f"error: {error}", 2 if str(error).startswith("--") else 1)
    except Exception as error:
        if what := shortage(error):
            _end(f"error: {what}; {advice}")
        if jax.distributed.is_initialized():
            _end(traceback.format_exc())
        raise


def _end(message: str, status: int = 1) -> NoReturn:
    if jax.distributed.is_initialized():
        distributed.leave(message, status)
    if status == 1:
        sys.exit(message)
    print(message, file=sys.stderr)
    sys.exit(status)


def _how_to_resume(checkpoints: Path) -> str:
    """The command that resumes the run, whose folder holds the options."""
    run = next((folder for folder in checkpoints.parents if (folder / "config.json").exists()), checkpoints)
    if jax.distributed.is_initialized():
        return f"to resume, start every process again with {shlex.join(['--resume', str(run)])}"
    return f"to resume: {shlex.join([*(program_line() or []), '--resume', str(run)])}"
