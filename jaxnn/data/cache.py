"""Where downloaded data sets are kept."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The folder for what jaxnn downloads; it need not exist yet.

    `$JAXNN_DATA` if set, else `$XDG_CACHE_HOME/jaxnn`, else `~/.cache/jaxnn`.

    Source:
        XDG Base Directory Specification (which has a relative `XDG_CACHE_HOME` ignored).

    Example:
        >>> import os
        >>> os.environ["JAXNN_DATA"] = "/data/pictures"
        >>> cache_dir().as_posix()
        '/data/pictures'
        >>> del os.environ["JAXNN_DATA"]
    """
    chosen = os.environ.get("JAXNN_DATA")
    if chosen:
        return Path(chosen).expanduser()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "jaxnn"
