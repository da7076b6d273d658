"""Missing optional dependencies, with the command that installs them."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from jaxnn.distribution import NAME


def install(extra: str) -> str:
    """Returns the command that installs an extra of this copy of the library.

    Args:
        extra: A name under `[project.optional-dependencies]`, for example `"experiments"`.

    Returns:
        A command that installs the checkout, editable, if the library runs from one, or else the distribution.

    Example:
        >>> from jaxnn.extras import install
        >>> install("data").startswith("pip install ")
        True
    """
    root = Path(__file__).parents[1]
    if _is_checkout(root):
        return shlex.join(["pip", "install", "-e", f"{root}[{extra}]"])
    return shlex.join(["pip", "install", f"{NAME}[{extra}]"])


def missing(what: str, extra: str) -> ModuleNotFoundError:
    """Makes the error for a package that is not installed: `what` names the caller and the package."""
    return ModuleNotFoundError(f"{what} is not installed; install it with: {install(extra)}")


@contextlib.contextmanager
def needed(what: str, extra: str) -> Iterator[None]:
    """Replaces the error of an import in the block by that of `missing`, or says why a package is broken."""
    try:
        yield
    except ImportError as error:
        trace = error.__traceback__  # of this frame, of the block, and of what the block imports, if that was found
        found = trace is not None and trace.tb_next is not None and trace.tb_next.tb_next is not None
        if isinstance(error, ModuleNotFoundError) and not found:
            raise missing(what, extra) from error
        broken = ImportError(f"{what} is installed but broken ({error}); install it anew: {install(extra)}")
        raise broken from error


def _is_checkout(root: Path) -> bool:
    try:
        return f'name = "{NAME}"' in (root / "pyproject.toml").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
