"""Finding digits without learning where they are: bright spots that hang together, each named by its nearest digit."""

from typing import Any, NamedTuple

import numpy as np

from jaxnn import metrics
from jaxnn.data import Boxed, Examples

LEVELS = (0.25, 0.35, 0.45, 0.55)
"""Thresholds between the background and the brightest pixel; the best on training scenes is taken."""
SMALLEST = 8
"""Pixels of the longer side of a spot that may be a digit."""


class Found(NamedTuple):
    """Detections of each picture: lists of boxes `(n, 4)`, scores `(n,)` and classes `(n,)`."""

    boxes: list[np.ndarray]
    scores: list[np.ndarray]
    classes: list[np.ndarray]


class Components:
    """Connected components and a nearest-neighbour classifier, fitted to digits and to training scenes.

    Args:
        digits: The digits that it compares with.
        scenes: Scenes to choose the threshold by.
    """

    def __init__(self, digits: Examples, scenes: Boxed) -> None:
        from sklearn.neighbors import NearestNeighbors

        cut = [_small(image[_tight(image > 0.4 * image.max())]) for image in digits.images[..., 0] / 255]
        self.nearest, self.labels = NearestNeighbors(n_neighbors=1).fit(np.stack(cut)), digits.labels
        reached = {}
        for self.level in LEVELS:
            found = self.find(scenes.images)
            reached[self.level] = metrics.mean_average_precision(
                *found, scenes.boxes, scenes.classes, thresholds=[0.5]
            ).mean
        self.level = max(LEVELS, key=lambda level: reached[level])

    def find(self, images: np.ndarray) -> Found:
        """Detections in pictures `(n, height, width, 1)` uint8; the nearer the digit, the higher the score."""
        boxes, cut = [], []
        for image in images[..., 0] / 255:
            places, spots = self.spots(image)
            boxes.append(np.array(places, float).reshape(-1, 4))
            cut += spots
        ends = np.cumsum([len(each) for each in boxes])[:-1]
        distance, index = self.nearest.kneighbors(np.stack(cut)) if cut else (np.zeros((0, 1)), np.zeros((0, 1), int))
        named = self.labels[index[:, 0]]
        return Found(boxes, np.split(1 / (1 + distance[:, 0]), ends), np.split(named, ends))

    def spots(self, image: np.ndarray) -> tuple[list[tuple[int, ...]], list[np.ndarray]]:
        """The bright spots of a picture that hang together: their boxes, and each as 64 numbers."""
        from scipy import ndimage

        dark, bright = np.median(image), image.max()
        spots, _ = ndimage.label(image > dark + self.level * (bright - dark), structure=np.ones((3, 3)))
        found = [(n, place) for n, place in enumerate(ndimage.find_objects(spots), 1) if _longer(place) >= SMALLEST]
        boxes: list[tuple[int, ...]] = [(x.start, y.start, x.stop, y.stop) for _, (y, x) in found]
        return boxes, [_small(np.where(spots[place] == n, image[place], dark)) for n, place in found]


def _longer(place: tuple[slice, slice]) -> int:
    return max(each.stop - each.start for each in place)


def _tight(inside: np.ndarray) -> tuple[Any, Any]:
    """The slices of the smallest box around the true pixels."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _small(image: np.ndarray) -> np.ndarray:
    """A picture of any size as 64 numbers: scaled to 8×8, and to the same brightness."""
    from scipy import ndimage

    zoom = (8 / image.shape[0], 8 / image.shape[1])
    scaled = ndimage.zoom(image.astype(float), zoom, order=1, grid_mode=True, mode="nearest").ravel()
    scaled = scaled - scaled.min()
    return scaled / max(np.linalg.norm(scaled), 1e-9)
