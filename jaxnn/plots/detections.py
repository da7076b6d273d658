"""Pictures with the boxes that a detector found in them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.metrics import box_iou, match_boxes
from jaxnn.plots.figure import Path, new_grid, save

RIGHT, FALSE, MISSED = "#51cf66", "#ff6b6b", "#ffd43b"
SAME = 0.6
"""The intersection over union from which on two boxes show one object."""


def detections(
    images: ArrayLike,
    found: tuple[ArrayLike, ArrayLike, ArrayLike],
    true: tuple[ArrayLike, ArrayLike],
    path: Path,
    class_names: Sequence[str],
    *,
    score: float = 0.3,
    threshold: float = 0.5,
    columns: int = 4,
    title: str = "",
) -> None:
    """Draws pictures with boxes, names and scores: correct boxes, false ones, and missed ones.

    Of overlapping boxes of any classes only the one with the highest score is drawn.

    Args:
        images: `(n, height, width, channels)` with 1 or 3 channels.
        found: Boxes `(n, k, 4)` (left, top, right and bottom edge), scores `(n, k)` and classes `(n, k)`, -1 for
            padding: `F.Detections`.
        true: Boxes `(n, m, 4)` and classes `(n, m)`, -1 for padding.
        path: The PNG to write.
        class_names: A name for each class.
        score: Smallest score of a box that is drawn.
        threshold: Smallest intersection over union of a correct box.
        columns: Pictures per row.
        title: A text above all pictures, before the meaning of the colours.

    Raises:
        ValueError: If shapes do not fit.
        ImportError: If matplotlib is absent.

    Example:
        >>> import numpy as np
        >>> from jaxnn import plots
        >>> found = np.array([[[2, 2, 9, 9]]]), np.array([[0.9]]), np.array([[0]])
        >>> true = np.array([[[2, 3, 9, 9]]]), np.array([[0]])
        >>> plots.detections(np.zeros((1, 16, 16, 1), np.uint8), found, true, "found.png", ["cat"])
    """
    shown = np.asarray(images)
    boxes, scores, classes = (np.asarray(each) for each in found)
    true_boxes, true_classes = (np.asarray(each) for each in true)
    lengths = {name: len(each) for name, each in (("found", boxes), ("true", true_boxes), ("scores", scores))}
    if shown.ndim != 4 or not len(shown) or set(lengths.values()) != {len(shown)}:
        raise ValueError(f"images: expected (n, height, width, channels), n as in {lengths}, got {shown.shape}")
    height, width = shown.shape[1:3]
    figure, places = new_grid(len(shown), min(columns, len(shown)), 2.4, 2.4 * height / width, above=0.5)
    for n, axes in enumerate(places):
        axes.set_axis_off()
        picture = shown[n, ..., 0] if shown.shape[-1] == 1 else shown[n]
        axes.imshow(picture, cmap="gray", interpolation="nearest", extent=(0, width, height, 0))
        drawn = np.flatnonzero((scores[n] >= score) & (classes[n] >= 0))
        drawn = drawn[_uppermost(boxes[n][drawn], scores[n][drawn])]
        there = true_classes[n] >= 0
        hits = match_boxes(
            boxes[n][drawn],
            scores[n][drawn],
            classes[n][drawn],
            true_boxes[n][there],
            true_classes[n][there],
            threshold=threshold,
        )
        of_found = zip(boxes[n][drawn], scores[n][drawn], classes[n][drawn], hits, strict=True)
        for number, (box, kind) in enumerate(zip(true_boxes[n][there], true_classes[n][there], strict=True)):
            if number not in hits:
                _frame(axes, box, MISSED, f"{class_names[kind]} missed", "--", below=True)
        for box, value, kind, hit in of_found:
            _frame(axes, box, RIGHT if hit >= 0 else FALSE, f"{class_names[kind]}  {value:.2f}", "-")
        axes.set(xlim=(-0.5, width + 0.5), ylim=(height + 0.5, -0.5))
    _legend(figure, title, score)
    save(figure, path)


def _uppermost(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which boxes to draw, by rising score, so that the surest are on top."""
    kept: list[int] = []
    overlaps = box_iou(boxes, boxes)
    for n in np.argsort(-scores, kind="stable"):
        if not (overlaps[n, kept] > SAME).any():
            kept.append(int(n))
    return np.array(kept[::-1], int)


def _frame(axes: Any, box: Any, colour: str, text: str, style: str, *, below: bool = False) -> None:
    """A box with its text above or below it, inside where that would leave the picture."""
    left, top, right, bottom = (float(edge) for edge in box)
    axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], style, color=colour, linewidth=1.3)
    height = axes.get_images()[0].get_extent()[2]
    inside = bottom > 0.92 * height if below else top < 0.08 * height
    axes.text(
        left,
        bottom if below else top,
        text,
        fontsize=6.5,
        color="black",
        verticalalignment="top" if below != inside else "bottom",
        clip_on=True,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )


def _legend(figure: Any, title: str, score: float) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=RIGHT, label=f"right, with its score (from {score:g})"),
        Line2D([], [], color=FALSE, label="false: another name, or nothing there"),
        Line2D([], [], color=MISSED, linestyle="--", label="missed"),
    ]
    legend = figure.legend(handles=entries, loc="outside lower center", ncols=3, frameon=True, fontsize=8)
    legend.get_frame().set(facecolor="#444444", edgecolor="none")
    for text in legend.get_texts():
        text.set_color("white")
    if title:
        figure.suptitle(title, fontsize=10)
