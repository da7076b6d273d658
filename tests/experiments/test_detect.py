"""Scenes of digits, the baseline, and the experiment as a whole."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import detect
from experiments.data import scenes as scenes_of
from experiments.data.components import Components
from experiments.data.scenes import scenes
from jaxnn import data, metrics
from tests.experiments.stops import die_before_checkpoint, resume, saved

TINY = {"side": 32, "digits": 2, "tests": 4, "steps": 2, "epochs": 2, "batch_size": 4, "width": 2, "blocks": 1}


@pytest.fixture(autouse=True)
def _promotion_as_a_person_has_it():
    """The script runs with JAX's own settings."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def drawn(digits, count=64, side=48, most=4, key=0):
    draw = jax.jit(lambda key, digits: scenes(key, digits, count, side, most))
    return jax.tree.map(np.asarray, draw(jax.random.key(key), digits))


def test_scenes_hold_digits_of_several_sizes_inside_and_hardly_covered():
    made = drawn(data.load_digits().train)
    assert made.images.shape == (64, 48, 48, 1)
    there = made.classes >= 0
    assert set(there.sum(1)) == set(range(5))
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


def test_a_box_is_the_smallest_around_the_ink(monkeypatch):
    """Without strokes and other digits: what is brighter than any background, slope and noise."""
    monkeypatch.setattr(scenes_of, "strokes", lambda drawn, side: jnp.zeros((side, side)))
    made = drawn(data.load_digits().train, count=32, most=1)
    for image, (box,), (kind,) in zip(made.images[..., 0], made.boxes, made.classes, strict=True):
        bright = image > 0.42 * 255
        if kind < 0:
            assert not bright.any()
            continue
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(box - found).max() <= 3


def test_connected_components_find_digits_that_are_apart():
    digits = data.load_digits().train
    made = drawn(digits, count=32, most=1)
    found = Components(digits, made).find(made.images)
    assert metrics.mean_average_precision(*found, made.boxes, made.classes, thresholds=[0.5]).mean > 0.8


def test_no_digit_of_the_test_set_is_trained_on(tmp_path, monkeypatch):
    """Other test digits change nothing of what training saw or learned, bit for bit, only what it is judged by."""
    digits = data.load_digits()
    other = digits.test._replace(images=255 - digits.test.images, labels=(digits.test.labels + 1) % 10)
    learned, judged = [], []
    for name, test in (("one", digits.test), ("two", other)):
        monkeypatch.setattr(data, "load_digits", lambda test=test: digits._replace(test=test))
        detect.main(detect.Options(**TINY, run=tmp_path / name))
        ((fingerprints, history),) = saved(tmp_path / name).values()
        learned.append((fingerprints, [record["train_loss"] for record in history]))
        judged.append([record["test_loss"] for record in history])
    assert learned[0] == learned[1]
    assert judged[0] != judged[1]


def test_it_runs_and_resumes_bit_for_bit(tmp_path, capsys, monkeypatch):
    run, stopped = tmp_path / "run", tmp_path / "stopped"
    detect.main(detect.Options(**TINY, run=run))
    result = json.loads((run / "result.json").read_text())
    assert set(result) == {"seconds", "parameters", "epochs", "network", "components"}
    assert (run / "detections.png").stat().st_size > 0
    assert "components: mean average precision" in capsys.readouterr().out
    die_before_checkpoint(2, monkeypatch, detect.main, detect.Options(**TINY, run=stopped))
    resume(detect, stopped, monkeypatch)
    assert saved(stopped) == saved(run)


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
    options = TINY | {"data_dir": folder(), "batch_size": 2}
    detect.main(detect.Options(**options, run=Path("run")))
    said = capsys.readouterr().out
    assert "on 2 pictures of squares, 1 held out" in said
    assert "components" not in said
    assert set(json.loads(Path("run/result.json").read_text())["network"]["map_by_class"]) == {"square"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 34}, "--side: expected a multiple of 4, 32 to 2048, got 34"),
        ({"digits": 0}, "--digits: expected a whole number of at least 1, got 0"),
        ({"score": 1.0}, "--score: expected a number from 0 to below 1"),
        (
            {"data_dir": Path("nowhere")},
            "--data-dir: nowhere: expected a folder with one JSON file .*, got no such",
        ),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        detect.main(detect.Options(run=Path("run"), **options))
    assert not Path("run").exists()


def test_one_picture_is_too_few():
    with pytest.raises(ValueError, match="--data-dir: expected at least 2 pictures, of which one is held out, got 1"):
        detect.main(detect.Options(data_dir=folder(1), run=Path("run")))
