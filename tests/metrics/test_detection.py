"""Detection metrics against COCO's own tools, pycocotools."""

import contextlib
import io

import numpy as np
import pytest

from jaxnn import metrics


@pytest.fixture(scope="module")
def coco():
    return pytest.importorskip("pycocotools.cocoeval", reason="pycocotools is the oracle of this test")


def random_pictures(seed, pictures=8, classes=3):
    """Whole-pixel boxes, so that overlaps tie exactly; scores in tenths; some pictures without boxes or detections."""
    rng = np.random.default_rng(seed)

    def boxes(n):
        low = rng.integers(0, 12, (n, 2))
        return np.concatenate([low, low + rng.integers(1, 9, (n, 2))], axis=1)

    scene = []
    for _ in range(pictures):
        true = boxes(rng.integers(0, 6))
        near = true + rng.integers(-1, 2, true.shape) * (rng.random(true.shape) < 0.3)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        found = np.concatenate([near, near[: rng.integers(0, 3)], boxes(rng.integers(0, 5))])
        found = found[rng.random(len(found)) < 0.85]
        kinds = rng.integers(0, classes, len(true))
        scene.append(
            {
                "boxes": found,
                "scores": rng.integers(0, 10, len(found)) / 10,
                "classes": rng.integers(0, classes, len(found)) if seed % 2 else np.resize([*kinds, 0], len(found)),
                "true_boxes": true,
                "true_classes": kinds,
                "crowd": rng.random(len(true)) < (0.3 if seed % 3 == 0 else 0),
            }
        )
    return scene


def by_coco(coco, scene, most):
    """Precision `(thresholds, classes)` and recall of pycocotools, without classes that have no true box."""
    from pycocotools.coco import COCO

    def as_bbox(box):
        left, top, right, bottom = map(float, box)
        return [left, top, right - left, bottom - top]

    truths, results = [], []
    for image, each in enumerate(scene, 1):
        for box, kind, crowd in zip(each["true_boxes"], each["true_classes"], each["crowd"], strict=True):
            bbox = as_bbox(box)
            truth = {"id": len(truths) + 1, "image_id": image, "category_id": int(kind) + 1, "bbox": bbox}
            truths.append(truth | {"area": bbox[2] * bbox[3], "iscrowd": int(crowd)})
        for box, kind, score in zip(each["boxes"], each["classes"], each["scores"], strict=True):
            found = {"image_id": image, "category_id": int(kind) + 1, "bbox": as_bbox(box), "score": float(score)}
            results.append(found)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": n + 1} for n in range(len(scene))],
            "categories": [{"id": n + 1} for n in range(3)],
            "annotations": truths,
        }
        truth.createIndex()
        judge = coco.COCOeval(truth, truth.loadRes(results), "bbox")
        judge.params.maxDets = [most]
        judge.evaluate()
        judge.accumulate()
    precision, recall = judge.eval["precision"][:, :, :, 0, 0], judge.eval["recall"][:, :, 0, 0]
    counted = recall[0] > -1
    return precision[:, :, counted].mean(1), recall[:, counted]


def of(scene, **options):
    return metrics.mean_average_precision(
        *([each[name] for each in scene] for name in ("boxes", "scores", "classes", "true_boxes", "true_classes")),
        **options,
    )


@pytest.mark.parametrize("most", [2, 100])
@pytest.mark.parametrize("seed", range(12))
def test_precision_and_recall_are_those_of_pycocotools(coco, seed, most):
    scene = random_pictures(seed)
    precision, recall = by_coco(coco, scene, most)
    reached = of(scene, crowd=[each["crowd"] for each in scene], max_detections=most)
    np.testing.assert_allclose(list(reached.by_class.values()), precision.mean(0), rtol=1e-10)
    np.testing.assert_allclose(reached.by_threshold, precision.mean(1), rtol=1e-10)
    assert reached.mean == pytest.approx(precision.mean(), rel=1e-10)
    assert reached.recall == pytest.approx(recall.mean(), rel=1e-10)


def test_overlaps_are_those_of_pycocotools(coco):
    from pycocotools import mask

    rng = np.random.default_rng(0)
    a, b = (np.concatenate([low := rng.uniform(0, 9, (n, 2)), low + rng.uniform(0.5, 9, (n, 2))], 1) for n in (7, 5))
    crowd = np.arange(5) % 2 == 0
    bbox = [np.concatenate([each[:, :2], each[:, 2:] - each[:, :2]], axis=1) for each in (a, b)]
    np.testing.assert_allclose(metrics.box_iou(a, b, crowd=crowd), mask.iou(*bbox, crowd.astype(np.uint8)), rtol=1e-9)


def test_padding_does_not_count():
    scene = random_pictures(5)
    padded = [
        {
            "boxes": np.concatenate([each["boxes"], np.zeros((3, 4))]),
            "scores": np.append(each["scores"], np.ones(3)),
            "classes": np.append(each["classes"], np.full(3, -1)),
            "true_boxes": np.concatenate([each["true_boxes"], np.zeros((2, 4))]),
            "true_classes": np.append(each["true_classes"], np.full(2, -1)),
        }
        for each in scene
    ]
    expected, got = of(scene), of(padded)
    np.testing.assert_array_equal(got.by_threshold, expected.by_threshold)
    assert got.by_class == expected.by_class


def test_a_perfect_detector_nothing_found_and_nothing_to_find():
    scene = [each | {"boxes": each["true_boxes"], "classes": each["true_classes"]} for each in random_pictures(1)]
    assert of([each | {"scores": np.ones(len(each["boxes"]))} for each in scene])[::3] == (1, 1)
    nothing = {"boxes": [], "scores": [], "classes": []}
    assert of([each | nothing for each in scene])[::3] == (0, 0)
    none = of([nothing | {"true_boxes": [], "true_classes": []}])
    assert np.isnan(none.mean)
    assert none.by_class == {}


def test_matches_are_of_one_class_and_take_each_box_once():
    true = [[0, 0, 10, 10], [20, 0, 30, 10]]
    found = [[0, 0, 10, 10], [1, 0, 10, 10], [20, 0, 30, 10], [20, 0, 30, 7]]
    hits = metrics.match_boxes(found, [0.5, 0.9, 0.9, 0.3], [0, 0, 1, 2], true, [0, 2])
    assert hits.tolist() == [-1, 0, -1, 1]
    assert metrics.match_boxes(found, [0.5, 0.9, 0.9, 0.3], [0, 0, 1, 2], true, [0, 2], threshold=0.8).tolist() == [
        *(-1, 0, -1, -1)
    ]
    assert metrics.match_boxes([], [], [], true, [0, 2]).tolist() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[[0, 0, 1]]]}, r"boxes: expected \(n, 4\), left, top, right and bottom edge, got shape \(1, 3\)"),
        ({"scores": []}, "scores: expected one entry per picture, 1 as in true_classes, got 0"),
        ({"scores": [[]]}, "boxes: expected one score and class per box, got 1 boxes with 0 scores and 1 classes"),
        ({"true_classes": [[0, 1]]}, "and 1 true boxes with 2 classes"),
        ({"scores": [[np.nan]]}, "scores: expected numbers, which order the detections, got NaN"),
        ({"classes": [[0.5]]}, "classes: expected integers, got float64"),
        ({"crowd": [[True, False]]}, r"crowd: expected one bool per true box, 1, got shape \(2,\)"),
        ({"max_detections": -1}, "max_detections: expected a whole number of at least 1, got -1"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    one = {"boxes": [[[0, 0, 1, 1]]], "scores": [[1]], "classes": [[0]], "true_boxes": [[[0, 0, 1, 1]]]}
    with pytest.raises(ValueError, match=message):
        metrics.mean_average_precision(**(one | {"true_classes": [[0]]} | change))


def test_matches_and_crowds_are_as_many_as_boxes():
    box = [[0, 0, 1, 1], [0, 0, 2, 2]]
    with pytest.raises(ValueError, match="got 2 boxes with 2 scores and 1 classes"):
        metrics.match_boxes(box, [0.5, 0.4], [0], box, [0, 0])
    with pytest.raises(ValueError, match="crowd: expected one bool per true box, 2"):
        metrics.box_iou(box, box, crowd=[True])
