"""Picture files are read as people see them, by the package and by the script that serves alone."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import serve
from jaxnn.data import load_coco, load_pictures, read_picture
from jaxnn.data.picture import decode

Image = pytest.importorskip("PIL.Image", reason="Pillow reads and writes the pictures")
GREY = np.arange(0, 256, 4, np.uint8).reshape(8, 8)


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


@pytest.mark.parametrize(
    ("picture", "options", "seen"),
    [
        (Image.fromarray(GREY), {}, GREY),
        (Image.fromarray(GREY.astype(np.uint16) * 257), {}, GREY),
        (Image.fromarray(GREY), {"exif": exif(6)}, np.rot90(GREY, -1)),
        (Image.fromarray(np.dstack([GREY * 0, GREY])), {}, 255 - GREY),  # black, more and more opaque
        (Image.fromarray(GREY > 127), {}, np.where(GREY > 127, np.uint8(255), np.uint8(0))),
        (Image.fromarray(GREY).convert("P"), {"transparency": 0}, np.where(GREY, GREY, np.uint8(255))),
    ],
    ids=["grey", "16 bits", "turned", "transparent", "1 bit", "palette"],
)
def test_pictures_are_seen_as_viewers_show_them(picture, options, seen):
    picture.save("a.png", **options)
    np.testing.assert_array_equal(read_picture(Path("a.png")), np.dstack([seen] * 3))
    np.testing.assert_array_equal(serve.read_picture(Path("a.png"), (8, 8, 1), invert=False)[..., 0], seen)


def test_a_picture_is_not_turned_where_only_its_size_before_fits():
    Image.new("RGB", (12, 8)).save("a.jpg", exif=exif(6))
    assert decode("a.jpg").size == decode("a.jpg", (8, 12)).size == (8, 12)
    assert decode("a.jpg", (12, 8)).size == (12, 8)


def test_what_has_no_known_range_is_named():
    Image.fromarray(GREY.astype(np.float32)).save("a.tif")
    with pytest.raises(ValueError, match=r"a.tif: expected 8 or 16 bits a channel, got 32, .*; convert it"):
        read_picture(Path("a.tif"))


@pytest.mark.parametrize(
    ("load", "arguments"),
    [(read_picture, ["pictures/cat/a.png"]), (load_pictures, ["pictures", 16]), (load_coco, ["pictures", 16])],
    ids=["one", "folders", "COCO"],
)
def test_the_extra_is_named_where_pillow_is_not_installed(load, arguments, monkeypatch):
    for each in ("cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png"):
        path = Path("pictures", each)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(path)
    listed = {"images": [{"id": 1, "file_name": "cat/a.png"}], "categories": [{"id": 1, "name": "cat"}]}
    Path("pictures/boxes.json").write_text(json.dumps(listed | {"annotations": []}))
    for name in ("PIL", "PIL.Image", "PIL.ImageOps"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"png: Pillow, which reads pictures, .* install it with: pip"):
        load(*arguments)
