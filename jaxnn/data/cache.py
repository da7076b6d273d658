"""The folder of downloaded data sets."""

import os
from pathlib import Path

from jaxnn.cache import user_cache


def cache_dir() -> Path:
    """Returns the folder for downloads, which need not exist yet.

    It is `$JAXNN_DATA` if that is set, otherwise `$XDG_CACHE_HOME/jaxnn` or `~/.cache/jaxnn`.

    Example:
        >>> import os
        >>> os.environ["JAXNN_DATA"] = "/data/pictures"
        >>> cache_dir().as_posix()
        '/data/pictures'
        >>> del os.environ["JAXNN_DATA"]
    """
    chosen = os.environ.get("JAXNN_DATA")
    return Path(chosen).expanduser() if chosen else user_cache()
