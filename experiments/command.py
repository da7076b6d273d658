"""What every experiment's command line shares: options from a dataclass, and errors in a sentence."""

import sys
from collections.abc import Callable
from typing import TypeVar

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
        sys.exit(f"error: {error}")
    except RuntimeError as error:
        from jaxnn.train import NonFiniteLossError

        if not isinstance(error, NonFiniteLossError):
            raise
        sys.exit(f"stopped: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped by Ctrl-C; what was measured so far is in the run folder")
