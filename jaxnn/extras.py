"""The command that installs a missing optional dependency."""

import shlex
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


def _is_checkout(root: Path) -> bool:
    try:
        return f'name = "{NAME}"' in (root / "pyproject.toml").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
