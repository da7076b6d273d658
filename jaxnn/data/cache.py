"""Where downloaded data sets are kept."""

import os
from pathlib import Path

from jaxnn.cache import user_cache


def cache_dir() -> Path:
    """The folder for what jaxnn downloads; it need not exist yet.

    `$JAXNN_DATA` if set, else `$XDG_CACHE_HOME/jaxnn`, else `~/.cache/jaxnn`.

    Example:
        >>> import os
        >>> os.environ["JAXNN_DATA"] = "/data/pictures"
        >>> cache_dir().as_posix()
        '/data/pictures'
        >>> del os.environ["JAXNN_DATA"]
    """
    chosen = os.environ.get("JAXNN_DATA")
    return Path(chosen).expanduser() if chosen else user_cache()
