"""Detection without learned positions: connected components, each with the class of its nearest digit."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jaxnn import metrics
from jaxnn.data import Boxed, Examples

LEVELS = (0.25, 0.35, 0.45, 0.55)
"""Thresholds between background and brightest pixel to choose from, by training scenes."""
SMALLEST = 8
"""Smallest and largest longer side of a digit, in pixels."""


class Found(NamedTuple):
    """Detections of each picture: lists of boxes `(n, 4)`, scores `(n,)` and classes `(n,)`."""

    boxes: list[np.ndarray]
    scores: list[np.ndarray]
    classes: list[np.ndarray]


class Components:
    """Connected components with the class of the nearest of some digits; training scenes choose the threshold."""

    def __init__(self, digits: Examples, scenes: Boxed) -> None:
        from sklearn.neighbors import NearestNeighbors

        images = digits.images[..., 0] / 255
        tight = [ndimage.find_objects((image > 0.4 * image.max()).astype(int))[0] for image in images]
        cut = [_small(image[place]) for image, place in zip(images, tight, strict=True)]
        self.nearest, self.labels = NearestNeighbors(n_neighbors=1).fit(np.stack(cut)), digits.labels
        truth = scenes.boxes, scenes.classes

        def reached(level: float) -> float:
            return metrics.mean_average_precision(*self.find(scenes.images, level), *truth, thresholds=[0.5]).mean

        self.level = max(LEVELS, key=reached)

    def find(self, images: np.ndarray, level: float | None = None) -> Found:
        """Detections in pictures `(n, height, width, 1)` uint8; the nearer the digit, the higher the score."""
        boxes, cut = [], []
        for image in images[..., 0] / 255:
            dark, bright = np.median(image), image.max()
            above = image > dark + (self.level if level is None else level) * (bright - dark)
            spots, _ = ndimage.label(above, structure=np.ones((3, 3)))
            found = [
                (number, (y, x))
                for number, (y, x) in enumerate(ndimage.find_objects(spots), 1)
                if max(y.stop - y.start, x.stop - x.start) >= SMALLEST
            ]
            boxes.append(np.array([(x.start, y.start, x.stop, y.stop) for _, (y, x) in found], float).reshape(-1, 4))
            cut += [_small(np.where(spots[place] == number, image[place], dark)) for number, place in found]
        distance, index = self.nearest.kneighbors(np.stack(cut)) if cut else (np.zeros((0, 1)), np.zeros((0, 1), int))
        ends = np.cumsum([len(each) for each in boxes])[:-1]
        return Found(boxes, np.split(1 / (1 + distance[:, 0]), ends), np.split(self.labels[index[:, 0]], ends))


def _small(image: np.ndarray) -> np.ndarray:
    """Scales a picture to 8×8 and to unit brightness, as 64 numbers."""
    zoom = (8 / image.shape[0], 8 / image.shape[1])
    scaled = ndimage.zoom(image.astype(float), zoom, order=1, grid_mode=True, mode="nearest").ravel()
    scaled = scaled - scaled.min()
    return scaled / max(np.linalg.norm(scaled), 1e-9)
