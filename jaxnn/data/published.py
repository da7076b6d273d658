"""Descriptions of published data sets: their contents, their forms on disk, and their hosts."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from jaxnn.data.dataset import Examples

Part: TypeAlias = Literal["train", "test"]


class File(NamedTuple):
    """A file that a host serves; size and checksums that are None are not checked.

    Attributes:
        name: Its name, at the host and on disk.
        md5: Hexadecimal MD5.
        sha256: Hexadecimal SHA-256.
        size: Length in bytes.
    """

    name: str
    md5: str | None = None
    sha256: str | None = None
    size: int | None = None

    def problem(self, path: Path) -> str | None:
        """Describes how the file at `path` differs from the published one; None if it does not."""
        got = path.stat().st_size
        if self.size is not None and got != self.size:
            return f"it has {got:,} bytes, the published file {self.size:,}"
        for name, expected in (("md5", self.md5), ("sha256", self.sha256)):
            if expected is None:
                continue
            with path.open("rb") as file:  # Python in FIPS mode has no MD5 otherwise
                digest = hashlib.file_digest(file, partial(hashlib.new, name, usedforsecurity=False)).hexdigest()
            if digest != expected.lower():
                return f"its {name.upper()} is {digest}, the published file's {expected.lower()}"
        return None

    def is_at(self, path: Path) -> bool:
        """Whether the published file is at `path`; raises if another file is."""
        if not path.exists():
            return False
        if problem := self.problem(path):
            raise ValueError(
                f"{path}: expected the published file, got another one: {problem}; move it away and run again."
            )
        return True


class Layout(NamedTuple):
    """A form of a data set on disk.

    Attributes:
        read: Returns a part of the data set from the folder of the files; its errors name the file.
        marks: Patterns of file names; a folder with any of these files holds this form.
        folders: Patterns of the folders of this form, as paths below a folder that holds several data sets.
        files: The files as hosts serve them; none if no host has this form.
        packed: Whether `files` is one archive, which holds the folder `folders[0]`.
    """

    read: Callable[[Path, Part, "Published"], Examples]
    marks: tuple[str, ...]
    folders: tuple[str, ...]
    files: tuple[File, ...] = ()
    packed: bool = False


class Host(NamedTuple):
    """A server of one form of a data set.

    Attributes:
        url: The address of its folder, ending with a slash.
        layout: The form.
    """

    url: str
    layout: Layout


class Published(NamedTuple):
    """A published data set.

    Attributes:
        name: Its name for `load`, in the cache and in run folders.
        classes: The names of its classes.
        shape: `(H, W, C)` of each picture.
        counts: The numbers of training and of test pictures.
        layouts: The forms in which people have it.
        hosts: Who serves it, in the order in which they are tried.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    counts: dict[Part, int]
    layouts: tuple[Layout, ...]
    hosts: tuple[Host, ...]
