"""The folder of downloaded data sets."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Returns the folder for downloads, which need not exist yet.

    It is `$JAXNN_DATA` if that is set, otherwise `$XDG_CACHE_HOME/jaxnn` or `~/.cache/jaxnn`.

    Raises:
        FileNotFoundError: If none of them is known, for a user without a home folder as in some containers.

    References:
        XDG Base Directory Specification, which says to ignore a relative `XDG_CACHE_HOME`.

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
    try:
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "jaxnn"
    except RuntimeError:
        raise FileNotFoundError("HOME: expected the path of a home folder, got none; set HOME.") from None
