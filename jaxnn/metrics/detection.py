"""Metrics of object detection: overlap, matches, and the average precision of COCO."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.counts import check_count

Floats = np.ndarray
THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10))
"""The overlaps at which COCO counts a detection as correct, one threshold after another."""
RECALLS = np.linspace(0, 1, 101)
"""The recalls at which COCO evaluates the precision."""


class AveragePrecision(NamedTuple):
    """Results of `mean_average_precision`.

    Attributes:
        mean: The mean over thresholds and classes.
        by_threshold: `(thresholds,)`: the means over classes.
        by_class: The means over thresholds, of each class that has a true box.
        recall: The fraction of true boxes that are found, averaged over thresholds and classes.
    """

    mean: float
    by_threshold: Floats
    by_class: dict[int, float]
    recall: float


def box_iou(boxes: ArrayLike, others: ArrayLike, *, crowd: ArrayLike | None = None) -> Floats:
    r"""Computes the intersection over union of each pair of boxes.

    .. math:: \mathrm{IoU}(A, B) = \frac{|A \cap B|}{|A \cup B|}

    Args:
        boxes: `(n, 4)`: left, top, right and bottom edge.
        others: `(m, 4)`.
        crowd: Bool `(m,)`: which of the others are crowds, of which a box may cover a part. For these the area of the
            box replaces the union, as in COCO.

    Returns:
        Float64 `(n, m)`, 0 where boxes do not overlap.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> from jaxnn import metrics
        >>> metrics.box_iou([[0, 0, 2, 2]], [[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2]]).round(3).tolist()
        [[1.0, 0.333, 0.0]]
    """
    a, b = _boxes("boxes", boxes), _boxes("others", others)
    inner = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    overlap = np.where((inner > 0).all(-1), inner.prod(-1), 0.0)
    area_a, area_b = (np.prod(each[:, 2:] - each[:, :2], axis=-1) for each in (a, b))
    union = area_a[:, None] + area_b[None] - overlap
    if crowd is not None:
        union = np.where(_crowds(crowd, len(b))[None], area_a[:, None], union)
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)


def match_boxes(
    boxes: ArrayLike,
    scores: ArrayLike,
    classes: ArrayLike,
    true_boxes: ArrayLike,
    true_classes: ArrayLike,
    *,
    threshold: float = 0.5,
) -> np.ndarray:
    """Matches the detections of a picture with its true boxes, as COCO does.

    In order of decreasing score, each detection takes the true box of its class that it overlaps most, among those that
    are still free, if the overlap reaches the threshold.

    Args:
        boxes: Detections `(n, 4)`: left, top, right and bottom edge.
        scores: `(n,)`.
        classes: Integers `(n,)`.
        true_boxes: `(m, 4)`.
        true_classes: Integers `(m,)`.
        threshold: Smallest intersection over union of a match.

    Returns:
        The index of each detection's true box, int64 `(n,)`; -1 if it has none.

    Raises:
        ValueError: If a shape or dtype does not fit, or a score is NaN.

    Example:
        >>> from jaxnn import metrics
        >>> boxes = [[0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]]
        >>> metrics.match_boxes(boxes, [0.6, 0.9, 0.8], [1, 1, 1], [[0, 0, 4, 4]], [1]).tolist()
        [-1, 0, -1]
    """
    found, scores, classes, true, true_classes = _checked(boxes, scores, classes, true_boxes, true_classes)
    ious = box_iou(found, true)
    hits = np.full(len(classes), -1)
    for kind in np.unique(classes):
        these, those = np.flatnonzero(classes == kind), np.flatnonzero(true_classes == kind)
        these = these[np.argsort(-scores[these], kind="stable")]
        (hit,) = _match(ious[np.ix_(these, those)], np.zeros(len(those), bool), np.array([threshold]))
        hits[these[hit >= 0]] = those[hit[hit >= 0]]
    return hits


def mean_average_precision(
    boxes: Sequence[ArrayLike] | ArrayLike,
    scores: Sequence[ArrayLike] | ArrayLike,
    classes: Sequence[ArrayLike] | ArrayLike,
    true_boxes: Sequence[ArrayLike] | ArrayLike,
    true_classes: Sequence[ArrayLike] | ArrayLike,
    *,
    crowd: Sequence[ArrayLike] | ArrayLike | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    max_detections: int = 100,
) -> AveragePrecision:
    r"""Computes the mean average precision of detections in pictures, as COCO does.

    .. math::

        \mathrm{AP}_{c,t} = \frac{1}{101} \sum_{r \in \{0, 0.01, \ldots, 1\}}
        \max_{r' \ge r} \mathrm{precision}_{c,t}(r')

    for class :math:`c` and threshold :math:`t`, over the detections of all pictures in order of decreasing score;
    `match_boxes` decides which are correct. The mean is over the thresholds and over the classes that have a true box.

    Args:
        boxes: For each picture the detected boxes `(n, 4)`: left, top, right and bottom edge.
        scores: For each picture `(n,)`.
        classes: For each picture integers `(n,)`; those below 0 are padding, which does not count.
        true_boxes: For each picture the true boxes `(m, 4)`.
        true_classes: For each picture integers `(m,)`; those below 0 are padding.
        crowd: For each picture bool `(m,)`: which true boxes are crowds. They need not be found, and detections that
            match only a crowd do not count. By default there are none.
        thresholds: Smallest intersections over union of a match; 0.5 to 0.95 in steps of 0.05 by default.
        max_detections: Number of detections per class and picture that count: those with the highest scores.

    Returns:
        The precisions; NaN if there is no true box.

    Raises:
        ValueError: If the pictures or their boxes differ in number, a shape or dtype does not fit, or a score is NaN.

    References:
        Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014, and its `pycocotools`.

    Example:
        >>> from jaxnn import metrics
        >>> truth = [[[0, 0, 4, 4], [6, 6, 9, 9]]], [[0, 0]]
        >>> result = metrics.mean_average_precision([[[0, 0, 4, 4]]], [[0.9]], [[0]], *truth)
        >>> round(result.mean, 3), result.recall
        (0.505, 0.5)
    """
    fields: dict[str, Any] = {
        "boxes": boxes,
        "scores": scores,
        "classes": classes,
        "true_boxes": true_boxes,
        "true_classes": true_classes,
    }
    if crowd is not None:
        fields["crowd"] = crowd
    pictures = len(true_classes)  # type: ignore[arg-type]
    for name, each in fields.items():
        if len(each) != pictures:
            raise ValueError(f"{name}: expected one entry per picture, {pictures} as in true_classes, got {len(each)}")
    limits, most = np.asarray(thresholds, np.float64), check_count("max_detections", max_detections)
    matched: dict[int, list[_Matched]] = {}
    for row in zip(*fields.values(), strict=True):
        for kind, result in _of_picture(*row, limits=limits, most=most):
            matched.setdefault(kind, []).append(result)
    precision, recall = {}, {}
    for kind in sorted(matched):
        if sum(each.true for each in matched[kind]):
            precision[kind], recall[kind] = _curve(matched[kind])
    if not precision:
        return AveragePrecision(np.nan, np.full(len(limits), np.nan), {}, np.nan)
    table = np.stack(list(precision.values()))
    return AveragePrecision(
        float(table.mean()),
        table.mean(0),
        {kind: float(each.mean()) for kind, each in precision.items()},
        float(np.mean(list(recall.values()))),
    )


class _Matched(NamedTuple):
    """The detections of one class in one picture, by decreasing score, and the number of true boxes that count.

    `right` and `counts` are bool `(thresholds, n)`.
    """

    scores: Floats
    right: np.ndarray
    counts: np.ndarray
    true: int


def _of_picture(
    boxes: ArrayLike,
    scores: ArrayLike,
    classes: ArrayLike,
    true_boxes: ArrayLike,
    true_classes: ArrayLike,
    crowd: ArrayLike | None = None,
    *,
    limits: Floats,
    most: int,
) -> list[tuple[int, _Matched]]:
    found, scores, classes, true, true_classes = _checked(boxes, scores, classes, true_boxes, true_classes)
    crowds = _crowds(crowd, len(true))
    result = []
    for kind in np.unique(np.concatenate([classes, true_classes])):
        if kind < 0:
            continue
        these, those = np.flatnonzero(classes == kind), np.flatnonzero(true_classes == kind)
        these = these[np.argsort(-scores[these], kind="stable")][:most]
        those = those[np.argsort(crowds[those], kind="stable")]
        hit = _match(box_iou(found[these], true[those], crowd=crowds[those]), crowds[those], limits)
        # A detection that matches only a crowd is neither correct nor wrong.
        in_crowd = np.append(crowds[those], False)[hit]
        matched = _Matched(scores[these], (hit >= 0) & ~in_crowd, ~in_crowd, int((~crowds[those]).sum()))
        result.append((int(kind), matched))
    return result


def _checked(
    boxes: ArrayLike, scores: ArrayLike, classes: ArrayLike, true_boxes: ArrayLike, true_classes: ArrayLike
) -> tuple[Floats, Floats, np.ndarray, Floats, np.ndarray]:
    """The detections and true boxes of a picture as arrays that fit each other."""
    found, true = _boxes("boxes", boxes), _boxes("true_boxes", true_boxes)
    rank, kinds, true_kinds = np.asarray(scores, np.float64), np.asarray(classes), np.asarray(true_classes)
    if not len(found) == len(rank) == len(kinds) or len(true) != len(true_kinds):
        raise ValueError(
            f"boxes: expected one score and class per box, got {len(found)} boxes with {len(rank)} scores and "
            f"{len(kinds)} classes, and {len(true)} true boxes with {len(true_kinds)} classes"
        )
    if np.isnan(rank).any():
        raise ValueError("scores: expected numbers, which order the detections, got NaN; leave these detections out.")
    for name, each in (("classes", kinds), ("true_classes", true_kinds)):
        if each.size and each.dtype.kind not in "iu":
            raise ValueError(f"{name}: expected integers, got {each.dtype}; convert them with astype(int).")
    return found, rank, kinds.astype(np.int64), true, true_kinds.astype(np.int64)


def _crowds(crowd: ArrayLike | None, number: int) -> np.ndarray:
    crowds = np.zeros(number, bool) if crowd is None else np.asarray(crowd, bool)
    if crowds.shape != (number,):
        raise ValueError(f"crowd: expected one bool per true box, {number}, got shape {crowds.shape}")
    return crowds


def _match(ious: Floats, crowd: np.ndarray, limits: Floats) -> np.ndarray:
    """Which true box each detection takes at each threshold, `(thresholds, n)`, -1 for none; crowds come last."""
    rows = np.arange(len(limits))
    hits = np.full((len(limits), len(ious)), -1)
    free = np.ones((len(limits), len(crowd)), bool)
    least = np.minimum(limits, 1 - 1e-10)[:, None]
    for number, overlaps in enumerate(ious) if len(crowd) else ():
        able = (free | crowd[None]) & (overlaps[None] >= least)
        single = able & ~crowd[None]
        able = np.where(single.any(1, keepdims=True), single, able)  # a single object comes before any crowd
        rank = np.where(able, overlaps[None], -1.0)
        # Of equal overlaps pycocotools takes the last.
        best = rank.shape[1] - 1 - rank[:, ::-1].argmax(1)
        taken = able[rows, best]
        hits[taken, number] = best[taken]
        free[rows[taken], best[taken]] = False
    return hits


def _curve(matched: list[_Matched]) -> tuple[Floats, Floats]:
    """Average precision and recall at each threshold, of one class in all pictures."""
    true = sum(each.true for each in matched)
    order = np.argsort(-np.concatenate([each.scores for each in matched]), kind="stable")
    right = np.concatenate([each.right for each in matched], axis=1)[:, order]
    counts = np.concatenate([each.counts for each in matched], axis=1)[:, order]
    hits, misses = np.cumsum(right, axis=1), np.cumsum(counts & ~right, axis=1)
    recall = hits / true
    precision = hits / np.maximum(hits + misses, 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([precision, np.zeros((len(precision), 1))], axis=1)
    means = [p[np.searchsorted(r, RECALLS, side="left")].mean() for p, r in zip(padded, recall, strict=True)]
    return np.array(means), recall[:, -1] if recall.shape[1] else np.zeros(len(recall))


def _boxes(name: str, boxes: ArrayLike) -> Floats:
    array = np.asarray(boxes, np.float64)
    if not array.size:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name}: expected (n, 4), left, top, right and bottom edge, got shape {array.shape}")
    return array
