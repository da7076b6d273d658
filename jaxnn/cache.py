"""The folder of files that jaxnn would otherwise make or download again."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Returns `$XDG_CACHE_HOME/jaxnn` or `~/.cache/jaxnn`; the folder need not exist yet.

    Raises:
        FileNotFoundError: If there is neither, as where a container runs for a user without a home folder.

    References:
        XDG Base Directory Specification, which says to ignore a relative `XDG_CACHE_HOME`.

    Example:
        >>> user_cache().name
        'jaxnn'
    """
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "jaxnn"
    except RuntimeError:
        raise FileNotFoundError("HOME: expected the path of a home folder, got none; set HOME.") from None
