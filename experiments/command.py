"""What every experiment's command line shares: options from a dataclass, and errors in a sentence."""

import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeVar

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
        sys.exit("error: the experiments need more packages: pip install 'jaxnn[experiments]'")
    parsed = tyro.cli(options, description=description)
    try:
        main(parsed)
    except (ValueError, OSError, ImportError) as error:
        _end(f"error: {error}")
    except RuntimeError as error:
        from jaxnn.train import NonFiniteLossError, ProcessLostError

        if not isinstance(error, NonFiniteLossError | ProcessLostError):
            _end_with_traceback()
            raise
        _end(f"stopped: {error}")
    except KeyboardInterrupt:
        _end("stopped by Ctrl-C; what was measured so far is in the run folder")
    except Exception:
        _end_with_traceback()
        raise


def _end(message: str) -> NoReturn:
    """Ends the process; one of several at once, so that the others learn of it and nobody waits for nobody."""
    if _one_of_several():
        from jaxnn.train import distributed

        distributed.leave(message)
    sys.exit(message)


def _end_with_traceback() -> None:
    if _one_of_several():
        _end(traceback.format_exc())


def _one_of_several() -> bool:
    import jax

    return jax.distributed.is_initialized()
