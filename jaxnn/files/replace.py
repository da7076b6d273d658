"""Writes a file as a whole or not at all, or under a name that is not in use."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Replaces a file atomically: yields a path beside it, which is renamed to `path` if no error occurs.

    Args:
        path: The file to create or replace.

    Yields:
        The path to write to, with the ending of `path`.

    Raises:
        IsADirectoryError: If `path` is a folder.
        FileNotFoundError: If its folder does not exist.
        OSError: If the file cannot be written; the error names it, also on a full disk.

    Example:
        >>> import pathlib
        >>> from jaxnn.files import replacing
        >>> with replacing("notes.txt") as beside:
        ...     _ = beside.write_text("done")
        >>> pathlib.Path("notes.txt").read_text()
        'done'
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path: expected a file, got the folder {path}; add the file's name.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: expected a folder to write {path.name} to, got {path.parent}; make it first.")
    beside = path.with_name(f".{path.stem}.{os.getpid()}.{threading.get_native_id()}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a failed write does not know its file
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)


def free_path(path: Path) -> Path:
    """Returns the first of `NAME`, `NAME-2`, `NAME-3`, ... that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
