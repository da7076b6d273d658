"""Pictures with boxes, as COCO's files of annotations describe them."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jaxnn.counts import check_count
from jaxnn.data.picture import decode

SMALLEST = 8
"""Pixels on the shorter side of a picture."""
SLACK = 1.0
"""Pixels by which a box may exceed its picture: tools round differently. The box is cut off there."""


class Boxed(NamedTuple):
    """Pictures and the boxes in them, as NumPy arrays on the host or arrays on the device.

    Attributes:
        images: `(N, H, W, C)` uint8, channels last.
        boxes: `(N, n, 4)` float32: left, top, right and bottom edge in pixels.
        classes: `(N, n)` int32; -1 is padding, where a picture has fewer than `n` boxes.
        crowd: `(N, n)` bool: which boxes mark whole crowds; these are neither learned nor counted.
    """

    images: Any
    boxes: Any
    classes: Any
    crowd: Any


class BoxedPictures(NamedTuple):
    """A data set of pictures with boxes.

    Attributes:
        name: Its name in plots.
        examples: The pictures.
        classes: `classes[number]` is the name of a class.
    """

    name: str
    examples: Boxed
    classes: tuple[str, ...]


def load_coco(folder: str | os.PathLike[str], side: int) -> BoxedPictures:
    """Loads a folder of pictures with one file of annotations in COCO's format.

    The folder holds one JSON file, which names pictures by their path from the folder, or from `images/` in it. Each
    picture is scaled to fit into a square, with its proportions and its boxes; black fills the rest, below or to the
    right. Pictures are rotated by their EXIF data, unless the width and height in the JSON file are those without the
    rotation. Transparent pixels become white.

    Args:
        folder: The folder.
        side: Side of the squares in pixels, at least 8.

    Returns:
        The pictures, `(N, side, side, 3)`. Classes are those of the file, by rising `id`.

    Raises:
        FileNotFoundError: If the folder, the JSON file or a picture is absent.
        ValueError: If the file or a picture cannot be read, a picture is smaller than 8 pixels, or a box has no size,
            is outside its picture, or is of a picture or category that the file does not list.
        ModuleNotFoundError: If Pillow is not installed.

    References:
        Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014; cocodataset.org, "Data format".

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from jaxnn import data
        >>> Path("zoo").mkdir()
        >>> Image.new("RGB", (40, 20)).save("zoo/a.png")
        >>> _ = Path("zoo/annotations.json").write_text(json.dumps({
        ...     "images": [{"id": 1, "file_name": "a.png"}],
        ...     "categories": [{"id": 7, "name": "cat"}],
        ...     "annotations": [{"image_id": 1, "category_id": 7, "bbox": [10, 2, 20, 16]}]}))
        >>> zoo = data.load_coco("zoo", 20)
        >>> zoo.examples.images.shape, zoo.examples.boxes.tolist(), zoo.classes
        ((1, 20, 20, 3), [[[5.0, 1.0, 15.0, 9.0]]], ('cat',))
    """
    check_count("side", side, SMALLEST)
    folder = Path(folder)
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or ("none" if folder.is_dir() else "no such folder")
        kind = ValueError if found else FileNotFoundError
        raise kind(f"{folder}: expected a folder with one JSON file of annotations, got {names}")
    return _Reader(found[0], side).read()


class _Reader:
    """Reads one file of annotations and the pictures that it names."""

    def __init__(self, path: Path, side: int) -> None:
        self.path, self.side = path, side

    def read(self) -> BoxedPictures:
        """The data set."""
        try:
            content = json.loads(self.path.read_bytes())  # UTF-8, with or without a mark, or UTF-16
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path}: expected JSON, got what cannot be read as such: {error}") from None
        pictures = self.by_id(content, "images", "file_name")
        sizes = {each["id"]: (each.get("width"), each.get("height")) for each in content["images"]}
        categories = self.by_id(content, "categories", "name")
        if not pictures or not categories:
            raise ValueError(f"{self.path}: expected at least one picture and one category, got none")
        known = {number: index for index, number in enumerate(sorted(categories))}
        of_picture: dict[Any, list[tuple[list[float], int, bool]]] = {number: [] for number in pictures}
        for index, each in enumerate(self.listed(content, "annotations")):
            where = f"{self.path}: annotations[{index}]"
            picture, category = each.get("image_id"), each.get("category_id")
            if picture not in of_picture:
                raise ValueError(f"{where}: expected the image_id of a picture in images, got {picture!r}")
            if category not in known:
                names = ", ".join(f"{number} ({categories[number]})" for number in list(known)[:10])
                raise ValueError(f"{where}: expected a category_id of categories, {names}, got {category!r}")
            of_picture[picture].append((_box(where, each.get("bbox")), known[category], bool(each.get("iscrowd"))))
        most = max(1, *(len(boxes) for boxes in of_picture.values()))
        count = len(pictures)
        examples = Boxed(
            np.zeros((count, self.side, self.side, 3), np.uint8),
            np.zeros((count, most, 4), np.float32),
            np.full((count, most), -1, np.int32),
            np.zeros((count, most), bool),
        )
        for row, (number, name) in enumerate(pictures.items()):
            pixels, size, scale = self.picture(name, sizes[number])
            examples.images[row, : pixels.shape[0], : pixels.shape[1]] = pixels
            for place, (box, kind, crowd) in enumerate(of_picture[number]):
                inside = self.inside(box, size, name)
                examples.boxes[row, place] = np.array(inside) * (*scale, *scale)
                examples.classes[row, place], examples.crowd[row, place] = kind, crowd
        return BoxedPictures(self.path.parent.name, examples, tuple(categories[number] for number in known))

    def listed(self, content: Any, name: str) -> list[dict[str, Any]]:
        """A list of entries of the file."""
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise ValueError(f"{self.path}: expected a list {name!r} of entries, as COCO's files have it, got none")
        return entries

    def by_id(self, content: Any, name: str, field: str) -> dict[int, str]:
        """A text field of the entries of a list by their `id`."""
        found: dict[int, str] = {}
        for index, each in enumerate(self.listed(content, name)):
            number, value = each.get("id"), each.get(field)
            if not isinstance(number, int) or number in found or not isinstance(value, str):
                raise ValueError(
                    f"{self.path}: {name}[{index}]: expected a whole id that no other has and a text {field!r}, "
                    f"got {number!r} and {value!r}"
                )
            found[number] = value
        return found

    def picture(
        self, name: str, stated: tuple[Any, Any]
    ) -> tuple[npt.NDArray[np.uint8], tuple[int, int], tuple[float, float]]:
        """A picture scaled to fit, its width and height before, and the scale along both."""
        spelled = (name, name.replace("\\", "/"))  # paths written on Windows have backslashes
        places = [self.path.parent / inside / each for each in spelled for inside in ("", "images")]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise FileNotFoundError(
                f"{self.path.parent / name}: expected a picture, which {self.path.name} lists, got no such file"
            )
        picture = decode(path, stated)  # first: it says how Pillow is installed
        from PIL.Image import Resampling

        width, height = picture.size
        longer = max(width, height)
        small = [max(1, round(length * self.side / longer)) for length in (width, height)]
        scaled = picture.resize((small[0], small[1]), Resampling.BILINEAR)
        if min(width, height) < SMALLEST:
            raise ValueError(
                f"{path}: expected at least {SMALLEST} pixels on each side, got {width}x{height}; leave it out."
            )
        return np.asarray(scaled), (width, height), (small[0] / width, small[1] / height)

    def inside(self, box: list[float], size: tuple[int, int], name: str) -> list[float]:
        """The box, cut off at the edges of the picture; raises where it exceeds it by more than rounding."""
        (left, top, right, bottom), (width, height) = box, size
        if min(left, top) < -SLACK or right > width + SLACK or bottom > height + SLACK:
            raise ValueError(
                f"{self.path}: expected boxes inside their pictures, got x {left:g} to {right:g} and y {top:g} to "
                f"{bottom:g} in {name} of {width}x{height}; bbox is [left, top, width, height] in pixels."
            )
        return [max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))]


def _box(where: str, bbox: Any) -> list[float]:
    """Left, top, right and bottom edge of COCO's left, top, width and height."""
    fine = isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(n, int | float) for n in bbox)
    if not fine or not np.isfinite(bbox).all() or min(bbox[2:]) <= 0:
        raise ValueError(f"{where}: expected a bbox [left, top, width, height] with a positive size, got {bbox!r}")
    return [float(bbox[0]), float(bbox[1]), float(bbox[0] + bbox[2]), float(bbox[1] + bbox[3])]
