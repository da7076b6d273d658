"""Scenes of digits, the baseline, and the experiment as a whole."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import detect
from experiments.data.components import Components
from experiments.data.scenes import edges, scenes
from jaxnn import data, metrics
from tests.experiments.stops import die_before_checkpoint, resume, saved

SCENES = {"digits": 2, "tests": 4, "steps": 2}
SMALL = {"side": 32, "epochs": 2, "batch_size": 4, "width": 2, "blocks": 1}
TINY = SCENES | SMALL


def test_scenes_hold_digits_of_several_sizes_inside_and_hardly_covered():
    draw = jax.jit(lambda key: scenes(key, data.load_digits().train, 64, 48, 4))
    made = jax.tree.map(np.asarray, draw(jax.random.key(0)))
    assert made.images.shape == (64, 48, 48, 1)
    there = made.classes >= 0
    assert {0, 1, 2, 3} <= set(there.sum(1))
    assert set(made.classes[there]) == set(range(10))
    boxes = made.boxes[there]
    assert (boxes >= 0).all()
    assert (boxes <= 48).all()
    heights = boxes[:, 3] - boxes[:, 1]
    assert heights.min() < 14
    assert heights.max() > 20
    overlaps = [np.triu(metrics.box_iou(b[t], b[t]), 1) for b, t in zip(made.boxes, there, strict=True)]
    assert 0 < max(each.max(initial=0) for each in overlaps) < 0.5
    assert not made.boxes[~there].any()
    # A digit is at least half as bright as white, and its box holds what has 40 % of its ink.
    for image, box in zip(made.images[there.any(1)][..., 0], made.boxes[there.any(1)], strict=True):
        left, top, right, bottom = box[box.any(1)][0].astype(int)
        assert image[top:bottom, left:right].max() > 127
        for edge in (image[top, left:right], image[bottom - 1, left:right], image[top:bottom, left]):
            assert edge.max() > 0.4 * 127


def test_edges_are_those_of_numpy():
    inside = np.random.default_rng(0).random((20, 9, 9)) < 0.04
    inside = inside[inside.any((1, 2))]
    expected = [
        [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        for rows, columns in ((np.flatnonzero(m.any(1)), np.flatnonzero(m.any(0))) for m in inside)
    ]
    np.testing.assert_array_equal(edges(jnp.asarray(inside)), expected)


def test_connected_components_find_digits_that_are_apart():
    digits = data.load_digits().train
    images = np.zeros((10, 60, 60, 1), np.uint8)
    boxes, classes = np.zeros((10, 2, 4), np.float32), np.zeros((10, 2), np.int32)
    for n in range(20):
        scene, at, scale = n // 2, 1 + 30 * (n % 2), 2 + n % 2
        large = np.kron(digits.images[n, ..., 0], np.ones((scale, scale), np.uint8))
        images[scene, at : at + 8 * scale, at : at + 8 * scale, 0] = large
        rows, columns = (np.flatnonzero((large > 100).any(axis)) for axis in (1, 0))
        boxes[scene, n % 2] = at + np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        classes[scene, n % 2] = digits.labels[n]
    made = data.Boxed(images, boxes, classes, classes < 0)
    found = Components(digits, made).find(images)
    assert metrics.mean_average_precision(*found, boxes, classes, thresholds=[0.5]).mean > 0.9


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was not stopped."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    detect.main(detect.Options(**TINY, run=folder))
    return folder


def test_it_leaves_numbers_and_a_picture(run):
    result = json.loads((run / "result.json").read_text())
    assert set(result) == {"seconds", "parameters", "epochs", "network", "components"}
    assert set(result["network"]) == set(result["components"]) == {"map_50", "map", "map_by_class"}
    assert (run / "detections.png").stat().st_size > 0


def test_no_digit_of_the_test_set_is_trained_on_and_a_killed_run_continues(run, tmp_path, monkeypatch):
    """Other test digits, and a stop, change nothing of what is learned, bit for bit, only what it is judged by."""
    digits = data.load_digits()
    other = digits.test._replace(images=255 - digits.test.images, labels=(digits.test.labels + 1) % 10)
    monkeypatch.setattr(data, "load_digits", lambda: digits._replace(test=other))
    die_before_checkpoint(2, monkeypatch, detect.main, detect.Options(**TINY, run=tmp_path / "other"))
    resume(detect, tmp_path / "other", monkeypatch)
    ((one, trained),), ((two, again),) = saved(run).values(), saved(tmp_path / "other").values()
    assert one == two
    assert [record["train_loss"] for record in trained] == [record["train_loss"] for record in again]
    assert [record["test_loss"] for record in trained] != [record["test_loss"] for record in again]


def folder(count=3):
    """A folder of pictures with a bright square each."""
    root = Path("squares")
    root.mkdir()
    images, annotations = [], []
    for n in range(count):
        pixels = np.zeros((24, 32, 3), np.uint8)
        pixels[4:16, 4 + n : 16 + n] = 255
        Image.fromarray(pixels).save(root / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png"})
        annotations.append({"image_id": n, "category_id": 1, "bbox": [4 + n, 4, 12, 12]})
    about = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (root / "boxes.json").write_text(json.dumps(about))
    return root


def test_a_folder_of_pictures_is_learned_and_a_fifth_of_it_held_out(capsys):
    options = SMALL | {"data_dir": folder(), "batch_size": 2}
    detect.main(detect.Options(**options, run=Path("run")))
    said = capsys.readouterr().out
    assert "on 2 pictures of squares, 1 held out" in said
    assert "components" not in said
    assert set(json.loads(Path("run/result.json").read_text())["network"]["map_by_class"]) == {"square"}


def test_one_picture_is_too_few():
    with pytest.raises(ValueError, match="--data-dir: expected at least 2 pictures, of which one is held out, got 1"):
        detect.main(detect.Options(data_dir=folder(1), run=Path("run")))
