"""Writes a file as a whole or not at all, or under a name that is not in use."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Writes a file as a whole or not at all: yields a path beside it, renamed to `path` when all went well.

    Args:
        path: The file to make or replace.

    Yields:
        Where to write, same ending as `path`.

    Raises:
        IsADirectoryError: If `path` is a folder.
        FileNotFoundError: If its folder does not exist.
        OSError: If it cannot be written; the error names the file, on a full disk too.

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
    """The path, or the first of `NAME-2`, `NAME-3`, ... at which there is nothing."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
