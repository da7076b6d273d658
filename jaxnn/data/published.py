"""Descriptions of published data sets: their contents, their forms on disk, and their hosts."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from jaxnn.data.checks import Checks
from jaxnn.data.dataset import Examples

Part: TypeAlias = Literal["train", "test"]


class File(NamedTuple):
    """A file that a host serves.

    Attributes:
        name: Its name, at the host and on disk.
        checks: Its size and checksums.
    """

    name: str
    checks: Checks


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
