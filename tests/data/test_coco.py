"""Folders of pictures with COCO's annotations, and what is wrong in one told by its file."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxnn import data

Image = pytest.importorskip("PIL.Image", reason="Pillow reads and writes the pictures")

FILE = {
    "images": [{"id": 5, "file_name": "wide.png"}, {"id": 2, "file_name": "high.png"}],
    "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
    "annotations": [
        {"image_id": 5, "category_id": 9, "bbox": [10, 0, 30, 20]},
        {"image_id": 5, "category_id": 4, "bbox": [0.5, 5, 4, 8.5], "iscrowd": 1},
    ],
}


def folder(change=None, *, inside=""):
    """A folder with two pictures; `change` edits the content of the file."""
    root = Path("zoo")
    (root / inside).mkdir(parents=True)
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:] = [255, 0, 100]
    Image.fromarray(pixels).save(root / inside / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(root / inside / "high.png")
    content = json.loads(json.dumps(FILE))
    if change is not None:
        change(content)
    (root / "annotations.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("inside", ["", "images"])
def test_pictures_are_scaled_into_squares_with_their_boxes(inside):
    name, examples, classes = data.load_coco(folder(inside=inside), 20)
    assert (name, classes) == ("zoo", ("cat", "dog"))
    images, boxes, kinds, crowd = examples
    assert images.shape == (2, 20, 20, 3)
    assert (images[0, :10, 7:] == [255, 0, 100]).all()
    assert not images[0, 10:].any()
    assert not images[1, :, 10:].any()
    np.testing.assert_array_equal(boxes[0], [[5, 0, 20, 10], [0.25, 2.5, 2.25, 6.75]])
    np.testing.assert_array_equal(kinds, [[1, 0], [-1, -1]])
    np.testing.assert_array_equal(crowd, [[False, True], [False, False]])
    assert [each.dtype for each in examples] == [np.uint8, np.float32, np.int32, bool]


def test_paths_as_windows_writes_them_and_a_byte_order_mark():
    root = folder(put("file_name", ".\\wide.png", of=("images", 0)))
    path = root / "annotations.json"
    path.write_bytes(path.read_text().encode("utf-8-sig"))
    assert data.load_coco(root, 20).examples.images[0].any()


def test_a_box_that_rounding_puts_over_the_edge_is_cut_off():
    found = data.load_coco(folder(box(0, [-0.4, 0, 40.9, 20.6])), 40).examples
    np.testing.assert_array_equal(found.boxes[0, 0], [0, 0, 40, 20])


def box(index, bbox):
    return lambda content: content["annotations"][index].update(bbox=bbox)


def put(name, value, *, of=("annotations", 0)):
    part, index = of
    return lambda content: content[part][index].update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            box(0, [20, 0, 30, 20]),
            r"expected boxes inside their pictures, got x 20 to 50 and y 0 to 20 in wide.png of 40x20",
        ),
        (box(1, [0, -3, 5, 5]), "expected boxes inside their pictures, got x 0 to 5 and y -3 to 2 in wide.png"),
        (box(0, [1, 1, 0, 5]), r"annotations\[0\]: expected a bbox .* with a positive size, got \[1, 1, 0, 5\]"),
        (box(0, [1, 1, 5]), r"annotations\[0\]: expected a bbox"),
        (box(0, "1 1 5 5"), r"annotations\[0\]: expected a bbox"),
        (put("category_id", 7), r"annotations\[0\]: expected a category_id of categories, 4 \(cat\), 9 \(dog\), got 7"),
        (put("image_id", 7), r"annotations\[0\]: expected the image_id of a picture in images, got 7"),
        (put("id", 5, of=("images", 1)), r"images\[1\]: expected a whole id that no other has .* got 5"),
        (lambda content: content.pop("categories"), "annotations.json: expected a list 'categories' of entries"),
        (lambda content: content["images"].clear(), r"annotations\[0\]|at least one picture and one category"),
    ],
)
def test_what_is_wrong_in_the_file_is_reported(change, message):
    with pytest.raises(ValueError, match=message):
        data.load_coco(folder(change), 20)


def test_what_is_wrong_with_files_is_reported():
    with pytest.raises(FileNotFoundError, match=r"zoo: expected a folder with one JSON file .*, got no such folder"):
        data.load_coco("zoo", 20)
    root = folder()
    with pytest.raises(ValueError, match="side: expected a whole number of at least 8, got 4"):
        data.load_coco(root, 4)
    (root / "more.json").write_text("{}")
    with pytest.raises(ValueError, match=r"zoo: expected .* one JSON file .*, got annotations.json, more.json"):
        data.load_coco(root, 20)
    (root / "more.json").unlink()
    Image.new("RGB", (7, 30)).save(root / "high.png")
    with pytest.raises(ValueError, match=r"high.png: expected at least 8 pixels on each side, got 7x30"):
        data.load_coco(root, 20)
    (root / "high.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"high.png: expected a picture, got what .*: cannot identify image file"):
        data.load_coco(root, 20)
    (root / "high.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"high.png: expected a picture, which annotations.json lists"):
        data.load_coco(root, 20)
    (root / "annotations.json").write_text("{")
    with pytest.raises(ValueError, match=r"annotations.json: expected JSON, got"):
        data.load_coco(root, 20)
    (root / "annotations.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"zoo: expected a folder with one JSON file of annotations, got none"):
        data.load_coco(root, 20)
