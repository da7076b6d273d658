"""Finds and reads copies of published data sets."""

import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxnn.data.dataset import Dataset, check_dataset
from jaxnn.data.published import Layout, Published


class Copy(NamedTuple):
    """A folder, and the form of the data set in it."""

    layout: Layout
    folder: Path


def usual_places() -> tuple[Path, ...]:
    """The folders in which other libraries keep data sets: torchvision's by custom, Keras's, the Hugging Face Hub's."""
    keras = os.path.join(os.environ.get("KERAS_HOME") or "~/.keras", "datasets")
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = os.path.join(os.environ.get("HF_HOME") or os.path.join(caches, "huggingface"), "hub")
    hub = os.environ.get("HF_HUB_CACHE") or hub
    # Where the user has no home folder, `~` remains, and nothing is found there.
    return tuple(Path(os.path.expanduser(place)) for place in ("data", keras, hub))


def find_below(published: Published, place: Path) -> Iterator[Copy]:
    """Finds the copies in the folders that bear the names of their forms, below a place of many data sets."""
    for layout in published.layouts:
        for pattern in layout.folders:
            for folder in [place] if pattern == "." else sorted(place.glob(pattern)):
                if _holds(folder, layout):
                    yield Copy(layout, folder)


def find_in(published: Published, folder: Path) -> Copy | None:
    """Finds the copy in the folder `data_dir`: the files themselves, their folder, or an archive."""
    for layout in published.layouts:
        if _holds(folder, layout):
            return Copy(layout, folder)
    return next(find_below(published, folder), None) or find_whole(published, folder, plain=False)


def find_whole(published: Published, folder: Path, *, plain: bool = True) -> Copy | None:
    """Finds a form whose published files are all in `folder`, checks them, and unpacks an archive beside itself.

    `plain=False` finds archives only. A file that differs from the published one raises a ValueError.
    """
    for layout in published.layouts:
        home = folder / layout.folders[0] if layout.packed else folder
        if layout.packed and home.exists():
            return Copy(layout, home)
        wanted = layout.files if layout.packed or plain else ()
        # All must exist before one is checked: a wrong one among some is none of a copy.
        if wanted and all((folder / file.name).exists() for file in wanted):
            for file in wanted:
                file.is_at(folder / file.name)
            if layout.packed:
                _unpack(folder / layout.files[0].name, home)
            return Copy(layout, home)
    return None


def read(published: Published, copy: Copy) -> Dataset:
    """Reads a copy; raises `ValueError` or `FileNotFoundError` where it is not the published data set."""
    train, test = (copy.layout.read(copy.folder, part, published) for part in published.counts)
    for part, examples in zip(published.counts, (train, test), strict=True):
        expected = (published.counts[part], *published.shape)
        if examples.images.shape != expected:
            raise ValueError(
                f"{copy.folder}: expected {part} pictures of shape {expected}, those of {published.name}, got "
                f"{examples.images.shape}; this is another data set, or a part of it."
            )
    try:
        return check_dataset(Dataset(published.name, train, test, published.classes))
    except ValueError as error:
        raise ValueError(f"{copy.folder}: {error}; the files are damaged, download them again.") from error


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks the folder of this name from a checked archive; `folder` appears whole or not at all."""
    # Beside, so that the rename stays on one file system.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True) as aside:
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.3 and older have none
            tar.extractall(aside)
        try:
            Path(aside, folder.name).rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise


def _holds(folder: Path, layout: Layout) -> bool:
    return any(path.is_file() for mark in layout.marks for path in folder.glob(mark))
