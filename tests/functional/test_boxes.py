"""Boxes as heat maps and back, against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F
from jaxnn import metrics

SHAPE, STRIDE = (5, 7, 3), 4


def random_boxes(*batch, seed=0):
    """Boxes inside a picture of 20 × 28, some of them padding."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, (22, 14), (*batch, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, (6, 6), (*batch, 2))], -1)
    return boxes.astype(np.float32), rng.integers(-1, SHAPE[2], batch).astype(np.int32)


def encoded(boxes, classes, least_iou):
    """The heat map of one picture in float64, box by box and cell by cell."""
    heat = np.zeros(SHAPE)
    for (left, top, right, bottom), kind in zip(boxes.astype(np.float64), classes, strict=True):
        if kind < 0:
            continue
        w, h = (right - left) / STRIDE, (bottom - top) / STRIDE
        x, y = int((left + right) / 2 / STRIDE), int((top + bottom) / 2 / STRIDE)
        c = w * h * (1 - least_iou) / (1 + least_iou)
        r = (w + h - np.sqrt((w + h) ** 2 - 4 * c)) / 2
        for row, column in np.ndindex(SHAPE[:2]):
            bell = np.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * ((2 * r + 1) / 6) ** 2))
            heat[row, column, kind] = max(heat[row, column, kind], bell)
    return heat


@pytest.mark.parametrize("least_iou", [0.5, 0.7])
def test_the_heat_map_is_that_of_a_loop(least_iou):
    boxes, classes = random_boxes(2, 3, 4)
    encode = jax.jit(lambda b, c: F.encode_boxes(b, c, SHAPE, stride=STRIDE, least_iou=least_iou))
    targets = encode(boxes, classes)
    for at in np.ndindex(2, 3):
        np.testing.assert_allclose(targets.heat[at], encoded(boxes[at], classes[at], least_iou), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(targets.present, classes >= 0)
    assert targets.heat.shape == (2, 3, *SHAPE)


def test_a_box_that_is_a_radius_off_overlaps_by_the_least_iou():
    """What the formula of the radius says: read off from the standard deviation of the bell."""
    box = np.array([[4.0, 4.0, 24.0, 16.0]], np.float32)
    for least in (0.5, 0.7, 0.9):
        heat = F.encode_boxes(jnp.asarray(box), jnp.array([0]), (5, 7, 1), stride=STRIDE, least_iou=least).heat
        sigma = np.sqrt(-1 / (2 * np.log(float(heat[2, 4, 0]))))
        radius = STRIDE * (6 * sigma - 1) / 2
        assert metrics.box_iou(box, box + radius)[0, 0] == pytest.approx(least, rel=1e-4)


def test_a_box_of_many_cells_does_not_overflow_float16():
    boxes = jnp.array([[0.0, 0.0, 200.0, 200.0]], jnp.float16)
    got, wanted = (F.encode_boxes(b, jnp.array([0]), (256, 256, 1), stride=1) for b in (boxes, jnp.float32(boxes)))
    assert got.heat.dtype == got.size.dtype == got.offset.dtype == jnp.float16
    np.testing.assert_allclose(np.float32(got.heat), wanted.heat, atol=1e-3)


def test_no_box_and_boxes_that_are_padding_give_an_empty_map():
    empty = F.encode_boxes(jnp.zeros((2, 0, 4)), jnp.zeros((2, 0), int), SHAPE, stride=STRIDE)
    assert empty.heat.shape == (2, *SHAPE)
    boxes = jnp.array([[0.0, 0.0, 8.0, 8.0], [4.0, 4.0, 4.0, 9.0], [0.0, 0.0, 8.0, 8.0]])
    padded = F.encode_boxes(boxes, jnp.array([-1, 0, SHAPE[2]]), SHAPE, stride=STRIDE)
    assert not padded.heat.any()
    assert not padded.present.any()
    assert not empty.heat.any()


def decoded(heat, size, offset, top, window):
    """The peaks of one picture, cell by cell, in Python."""
    _, width, kinds = heat.shape
    half, found = window // 2, []
    for row, column, kind in np.ndindex(heat.shape):
        around = heat[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1, kind]
        if heat[row, column, kind] >= around.max():
            (w, h), (dx, dy) = np.maximum(size[row, column], 0), offset[row, column]
            x, y = column + dx, row + dy
            box = [STRIDE * edge for edge in (x - w / 2, y - h / 2, x + w / 2, y + h / 2)]
            found.append((heat[row, column, kind], (row * width + column) * kinds + kind, box, kind))
    return sorted(found, key=lambda each: (-each[0], each[1]))[:top]


@pytest.mark.parametrize(("top", "window"), [(6, 3), (100, 5)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_detections_are_those_of_a_search_through_all_cells(top, window, ties):
    rng = np.random.default_rng(1)
    heat = rng.normal(0, 3, (2, 3, *SHAPE)).astype(np.float32)
    heat = np.round(heat) if ties else heat
    size, offset = (rng.normal(1, 1, (2, 3, *SHAPE[:2], 2)).astype(np.float32) for _ in range(2))
    decode = jax.jit(lambda *maps: F.decode_boxes(F.BoxMaps(*maps), stride=STRIDE, top=top, window=window))
    found = decode(heat, size, offset)
    assert found.boxes.shape == (2, 3, top, 4)
    for at in np.ndindex(2, 3):
        expected = decoded(heat[at], size[at], offset[at], top, window)
        n = len(expected)
        np.testing.assert_allclose(found.boxes[at][:n], [box for _, _, box, _ in expected], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found.classes[at][:n], [kind for *_, kind in expected])
        np.testing.assert_allclose(found.scores[at][:n], [1 / (1 + np.exp(-z)) for z, *_ in expected], rtol=1e-5)
        assert (found.classes[at][n:] == -1).all()
        assert (found.scores[at][n:] == 0).all()


def test_what_is_encoded_is_decoded():
    boxes, classes = random_boxes(6, 2, seed=3)
    classes = np.abs(classes)
    classes[:, 1] = (classes[:, 0] + 1) % SHAPE[2]  # two of one class may share a peak
    targets = F.encode_boxes(jnp.asarray(boxes), jnp.asarray(classes), SHAPE, stride=STRIDE)
    size, offset = (np.zeros((6, *SHAPE[:2], 2), np.float32) for _ in range(2))
    for n, cells in enumerate(np.asarray(targets.cells)):
        for values, given in ((size, targets.size), (offset, targets.offset)):
            values[n].reshape(-1, 2)[cells] = given[n]
    distinct = np.asarray(targets.cells[:, 0] != targets.cells[:, 1])
    assert distinct.sum() >= 4
    found = F.decode_boxes(F.BoxMaps(jnp.log(targets.heat), size, offset), stride=STRIDE, top=2)
    for n in np.flatnonzero(distinct):
        order = np.argsort(found.classes[n]), np.argsort(classes[n])
        np.testing.assert_array_equal(np.sort(found.classes[n]), np.sort(classes[n]))
        np.testing.assert_allclose(found.boxes[n][order[0]], boxes[n][order[1]], atol=1e-4)


def test_logits_whose_probabilities_are_all_one_have_one_peak():
    heat = jnp.full((4, 4, 1), 100.0).at[1, 1].set(101.0)
    found = F.decode_boxes(F.BoxMaps(heat, jnp.ones((4, 4, 2)), jnp.zeros((4, 4, 2))), stride=1, top=1)
    np.testing.assert_allclose(found.boxes, [[0.5, 0.5, 1.5, 1.5]])


BOXES, CLASSES = jnp.ones((2, 4)), jnp.zeros(2, int)
MAPS = F.BoxMaps(jnp.ones((4, 4, 3)), jnp.ones((4, 4, 2)), jnp.ones((4, 4, 2)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.encode_boxes(jnp.ones((2, 3)), CLASSES, SHAPE, stride=4), r"boxes: expected \(\*batch, n, 4\)"),
        (lambda: F.encode_boxes(jnp.ones(4, int), CLASSES, SHAPE, stride=4), "boxes: expected .*float"),
        (lambda: F.encode_boxes(BOXES, jnp.zeros(3, int), SHAPE, stride=4), r"classes: expected integers \(2,\)"),
        (lambda: F.encode_boxes(BOXES, jnp.zeros(2), SHAPE, stride=4), "classes: expected integers .*got float32"),
        (lambda: F.encode_boxes(BOXES, CLASSES, SHAPE, stride=0), "stride: expected a whole number of at least 1"),
        (lambda: F.encode_boxes(BOXES, CLASSES, (5, 0, 1), stride=4), "shape: expected a whole number of at least 1"),
        (lambda: F.encode_boxes(BOXES, CLASSES, (5, 7), stride=4), r"shape: expected \(height, .*got \(5, 7\)"),
        (
            lambda: F.encode_boxes(BOXES, CLASSES, SHAPE, stride=4, least_iou=1.0),
            "least_iou: expected a number",
        ),
        (lambda: F.decode_boxes(MAPS._replace(size=jnp.ones((4, 4, 3))), stride=4), "maps: expected heat .* and size"),
        (lambda: F.decode_boxes(MAPS.heat, stride=4), r"maps: expected F.BoxMaps.*got float32"),
        (lambda: F.decode_boxes(MAPS, stride=4, top=49), "top: expected at most 48, the size of the heat map, got 49"),
        (lambda: F.decode_boxes(MAPS, stride=4, top=4, window=2), "window: expected an odd number, got 2"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
