"""Your pictures: a folder with one sub-folder per class."""

import os
from pathlib import Path

import numpy as np

from jaxnn.counts import check_count
from jaxnn.data.dataset import Dataset, Examples, check_dataset, check_held_out
from jaxnn.data.picture import decode

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files with other endings (notes, thumbnails of the system) are left out."""


def load_pictures(
    folder: str | os.PathLike[str], side: int = 32, *, test_fraction: float = 0.2, seed: int = 0
) -> Dataset:
    """Loads your pictures: a folder with one sub-folder per class, the layout of torchvision's `ImageFolder`.

    If the folder contains `train` and `test` with such sub-folders, these are the two parts. Otherwise `test_fraction`
    of the pictures of each class (at least one, and never all) are held out at random, the same ones for the same
    `seed`.

    Each picture is scaled with its proportions, and its longer side is cropped at both ends to a square. Pictures are
    rotated by their EXIF data, transparent pixels become white, and grey becomes three equal channels.

    Args:
        folder: The folder.
        side: Side of the squares in pixels, 1 or above.
        test_fraction: The fraction of each class that is held out, above 0 and below 1.
        seed: Chooses the held-out pictures; 0 or above.

    Returns:
        Images `(N, side, side, 3)` uint8 and labels `(N,)` int32, with the classes in alphabetical order.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are fewer than two classes, a class has no pictures or too few to hold one out, the parts
            have different classes, a file cannot be read as a picture, or an argument is out of range.
        ModuleNotFoundError: If Pillow is not installed.

    Example:
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from jaxnn import data
        >>> for name, colour in (("cat", "black"), ("dog", "white")):
        ...     Path("pets", name).mkdir(parents=True)
        ...     for number in range(5):
        ...         Image.new("RGB", (40, 30), colour).save(f"pets/{name}/{number}.png")
        >>> pets = data.load_pictures("pets", 16)
        >>> pets.classes, pets.train.images.shape, pets.test.labels
        (('cat', 'dog'), (8, 16, 16, 3), array([0, 1], dtype=int32))
    """
    folder = Path(folder)
    check_count("side", side)
    check_held_out(test_fraction, seed)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of pictures, got none")
    if all((folder / part).is_dir() for part in ("train", "test")):
        train, test = _files(folder / "train"), _files(folder / "test")
        if [*train] != [*test]:
            raise ValueError(
                f"{folder / 'test'}: expected the classes of train, {', '.join(train)}, got {', '.join(test)}; make "
                "their folders alike."
            )
    else:
        train, test = _split(_files(folder), test_fraction, seed)
    return check_dataset(Dataset(folder.resolve().name, _read(train, side), _read(test, side), tuple(train)))


def _files(folder: Path) -> dict[str, list[Path]]:
    """The picture files of each class."""
    found = {
        inside.name: sorted(path for path in inside.iterdir() if path.suffix.lower() in ENDINGS)
        for inside in sorted(folder.iterdir())
        if inside.is_dir() and not inside.name.startswith(".")
    }
    if len(found) < 2:
        raise ValueError(
            f"{folder}: expected a sub-folder of pictures for each of at least two classes, got "
            f"{', '.join(found) or 'none'}; the names of the folders are the classes."
        )
    if empty := [name for name, files in found.items() if not files]:
        raise ValueError(f"{folder / empty[0]}: expected pictures (*{', *'.join(ENDINGS)}), got none; add some.")
    return found


def _split(
    files: dict[str, list[Path]], fraction: float, seed: int
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    rng = np.random.default_rng(seed)
    train, test = {}, {}
    for name, paths in files.items():
        if len(paths) < 2:
            raise ValueError(f"{paths[0].parent}: expected two pictures or more, to hold one out, got 1; add some.")
        count = min(max(1, round(fraction * len(paths))), len(paths) - 1)
        held = {*rng.permutation(len(paths))[:count].tolist()}
        train[name] = [path for place, path in enumerate(paths) if place not in held]
        test[name] = [path for place, path in enumerate(paths) if place in held]
    return train, test


def _read(files: dict[str, list[Path]], side: int) -> Examples:
    labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(paths) for paths in files.values()])
    images = np.empty((len(labels), side, side, 3), np.uint8)
    for place, path in enumerate(path for paths in files.values() for path in paths):
        picture = decode(path)  # first: it says how Pillow is installed
        from PIL import ImageOps

        images[place] = np.asarray(ImageOps.fit(picture, (side, side)))
    return Examples(images, labels)
