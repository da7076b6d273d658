"""Recognises `jaxnn` of the package index: another project, whose package has the same import name as this one.

pip installs both projects into one folder, where the later one replaces files of the earlier one. The sub-packages that
a program starts with import this module, so that one sentence says so before a missing name does.
"""

import sys
import warnings
from pathlib import Path

NAME = "jaxnn-layers"
"""The name of this distribution."""

STRANGER = "jaxnn"
"""The name of the other distribution."""

_REPAIR = f"run `pip uninstall {STRANGER} {NAME}` and install {NAME} again."


def check(package: object, folder: Path) -> None:
    """Checks that the imported package is this one; warns if the other project is installed beside it.

    Args:
        package: The module that was imported as `jaxnn`.
        folder: The folder that contains the package.

    Raises:
        ImportError: If the other project's package was imported.
    """
    if getattr(package, "__distribution__", None) != NAME:
        raise ImportError(
            f"jaxnn: expected the package of the distribution {NAME}, got that of {STRANGER}, another project with the "
            f"same import name; {_REPAIR}"
        )
    if next(folder.glob(f"{STRANGER}-*.dist-info"), None) is not None:
        warnings.warn(
            f"jaxnn: expected the distribution {NAME} alone, got {STRANGER} beside it, another project with the "
            f"same import name; {_REPAIR}",
            RuntimeWarning,
            stacklevel=2,
        )


check(sys.modules["jaxnn"], Path(__file__).parents[1])
