"""The folder in which jaxnn keeps what it would otherwise make or fetch again."""

import os
from pathlib import Path


def user_cache() -> Path:
    """`$XDG_CACHE_HOME/jaxnn`, or `~/.cache/jaxnn`; it need not exist yet.

    References:
        XDG Base Directory Specification (which has a relative `XDG_CACHE_HOME` ignored).

    Example:
        >>> user_cache().name
        'jaxnn'
    """
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "jaxnn"
