"""Writes a file as a whole or not at all."""

import os
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

    Example:
        >>> import pathlib
        >>> from jaxnn.files import replacing
        >>> with replacing("notes.txt") as beside:
        ...     _ = beside.write_text("done")
        >>> pathlib.Path("notes.txt").read_text()
        'done'
    """
    path = Path(path)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
