import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from jaxnn.data import load
from tests.data import forms

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
Image = pytest.importorskip("PIL.Image")

FOLDER = Path("mine")
TEST = FOLDER / "test-00000-of-00001.parquet"


@pytest.fixture(autouse=True)
def copy(small_tables):
    forms.write_parquet("cifar10", FOLDER, shards=1)


def picture(array=None, kind="PNG", **how):
    content = io.BytesIO()
    array = np.zeros((32, 32, 3), np.uint8) if array is None else array
    Image.fromarray(array, **how).save(content, kind)
    return {"bytes": content.getvalue(), "path": None}


def enlarged(png):
    """The same file, whose header states a hundred thousand rows and columns."""
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


NOISE = picture(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))


def rows(last=None, label=1):
    return [{"img": picture(), "label": 0}] * 2 + [{"img": last or picture(), "label": label}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (rows(picture(np.zeros((32, 31, 3), np.uint8))), r"at row 2 \(a picture \(32, 31, 3\) of mode RGB\)"),
        (rows(picture(np.zeros((32, 32), np.uint8))), r"at row 2 \(a picture \(32, 32, 1\) of mode L\)"),
        (rows(picture(kind="BMP")), r"at row 2 \(cannot identify image file"),
        (rows({"bytes": NOISE["bytes"][:-40], "path": None}), "at row 2 "),
        (rows({"bytes": enlarged(NOISE["bytes"]), "path": None}), "at row 2 .*decompression bomb"),
        (rows({"bytes": b"", "path": None}), "at row 2 "),
        (rows({"bytes": None, "path": "a.png"}), "at row 2 "),
        (rows(label=None), r"at row 2 \(the label None\)"),
        ([row | {"label": 0.5} for row in rows()], r"at row 0 \(the label 0\.5\)"),
        ([row | {"label": "1"} for row in rows()], r"at row 0 \(the label '1'\)"),
        (rows(label=2**40), "at row 2 "),
        (rows() * 2, r"at row 0 \(more than 3 rows\)"),
        ([{"text": "a", "label": 0}], r"at row 0 \(no column img or image\)"),
        ([{"img": picture(), "class": 0}], r"at row 0 \(no column fine_label or label\)"),
        ([{"img": "a.png", "label": 0}], "at row 0 "),
    ],
    ids=lambda value: "" if isinstance(value, list) else value[-25:],
)
def test_rows_of_another_content_are_named(content, message):
    pq.write_table(pa.Table.from_pylist(content), TEST)
    with pytest.raises(ValueError, match=rf"test-00000-of-00001\.parquet: expected rows of a PNG picture .*{message}"):
        load("cifar10", FOLDER)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (rows()[:2], r"mine: expected test pictures of shape \(3, 32, 32, 3\), .* got \(2, 32, 32, 3\)"),
        (rows(label=10), r"mine: cifar10: test\.labels: expected 0\.\.9, .*, got 10 at index 2"),
        (rows(label=-1), r"mine: cifar10: test\.labels: expected 0\.\.9, .*, got -1 at index 2"),
    ],
    ids=["rows", "10", "-1"],
)
def test_pictures_of_another_number_and_labels_of_no_class_are_named(content, message):
    pq.write_table(pa.Table.from_pylist(content), TEST)
    with pytest.raises(ValueError, match=message):
        load("cifar10", FOLDER)


@pytest.mark.parametrize("damage", [slice(0, -30), slice(0, 0), slice(40, None)], ids=str)
def test_a_damaged_file_is_named(damage):
    TEST.write_bytes(TEST.read_bytes()[damage])
    with pytest.raises(ValueError, match=r"test-00000-of-00001\.parquet: expected rows of a PNG picture"):
        load("cifar10", FOLDER)


def test_a_missing_part_is_named():
    TEST.unlink()
    with pytest.raises(FileNotFoundError, match=r"mine: expected test-\*\.parquet, got none; download it too"):
        load("cifar10", FOLDER)


def test_the_extra_is_named_where_pyarrow_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r"mine: pyarrow or Pillow, which reading Parquet files needs, is not installed; .*parquet",
    ):
        load("cifar10", FOLDER)
