import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn.data import load_idx, read_idx

# The format's codes, and struct's letters for one value.
CODES = {"uint8": (0x08, "B"), "int8": (0x09, "b"), "int16": (0x0B, "h"), "int32": (0x0C, "i")}
CODES |= {"float32": (0x0D, "f"), "float64": (0x0E, "d")}


def idx(array):
    """The format, written value by value."""
    code, letter = CODES[array.dtype.name]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + b"".join(struct.pack(">" + letter, value) for value in array.ravel().tolist())


def write(name, content):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@given(
    dtype=st.sampled_from(sorted(CODES)),
    shape=st.lists(st.integers(0, 4), max_size=4),
    name=st.sampled_from(["a", "a.gz"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_reads_back_what_was_written(dtype, shape, name, seed):
    array = (np.random.default_rng(seed).normal(size=shape) * 50).astype(np.int8).astype(dtype)
    read = read_idx(write(name, idx(array)))
    np.testing.assert_array_equal(read, array, strict=True)
    assert read.dtype.isnative
    assert read.flags.writeable


def test_gzip_is_recognised_by_its_content_not_its_name():
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    Path("plain-name").write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(read_idx("plain-name"), array)


SOUND = idx(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"which starts with two zero bytes, got ''"),
        (b"\0\0\x08", "which starts with two zero bytes"),
        (b"\x01" + SOUND[1:], r"which starts with two zero bytes, got '01 00 08 02'"),
        (b"\0\0\x07" + SOUND[3:], r"dtype code of 0x08, 0x09, .*, got 0x07"),
        (SOUND[:9], "expected a header of 12 bytes for 2 axes, got 9"),
        (SOUND[:-1], r"expected 12 bytes after the header, which states shape \(3, 4\) of uint8, got 11 \(truncated\)"),
        (SOUND + b"\0\0", r"expected 12 bytes after the header, which states shape \(3, 4\) of uint8, got more"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3), r"\(truncated\)"),
        (gzip.compress(SOUND, mtime=0)[:-9], "whole gzip file, got a truncated or damaged one"),
        (gzip.compress(SOUND, mtime=0)[:-8] + bytes(8), "whole gzip file, got a truncated or damaged one"),
        (gzip.compress(SOUND, mtime=0) + b"tail", "whole gzip file, got a truncated or damaged one"),
        (b"\x1f\x8b" + bytes(20), "whole gzip file, got a truncated or damaged one"),
        (gzip.compress(SOUND + bytes(9)), "trailing bytes"),
        (gzip.compress(SOUND) + gzip.compress(b"more"), "trailing bytes"),
        (gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3)), r"\(truncated\)"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 0, *[2**32 - 1] * 2), "a shape that NumPy can hold"),
        (struct.pack(">BBBB99I", 0, 0, 8, 99, *[1] * 99) + b"1", "a shape that NumPy can hold"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_named(content, message):
    Path("a.idx").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx("a.idx")
    assert "a.idx" in str(caught.value)


def test_no_more_is_unpacked_than_the_header_states(monkeypatch):
    """840 bytes stated; 64 MiB packed in 64 KiB, of which no more than a buffer is unpacked."""
    packed = gzip.compress(struct.pack(">BBBB1I", 0, 0, 8, 1, 840) + bytes(1 << 26))
    Path("a.idx").write_bytes(packed)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"expected 840 bytes after the header, which states shape .* got more"):
            read_idx("a.idx")
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@given(where=st.floats(0, 1, exclude_max=True), bit=st.none() | st.integers(0, 7), packed=st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_file_with_a_flipped_bit_or_cut_short_is_read_whole_or_named(where, bit, packed):
    array = np.arange(60, dtype=np.int16).reshape(3, 20)
    damaged = bytearray(gzip.compress(idx(array)) if packed else idx(array))
    # The values of a plain file have no checksum.
    at = int(where * (len(damaged) if packed or bit is None else 12))
    if bit is None:
        del damaged[at:]
    else:
        damaged[at] ^= 1 << bit
    Path("a.idx").write_bytes(damaged)
    refused = None
    try:
        read = read_idx("a.idx")
    except ValueError as error:
        refused = str(error)
    if refused is not None:
        assert "a.idx" in refused
    else:
        assert read.size == 60 if not packed else np.array_equal(read, array)


NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


@pytest.fixture
def arrays():
    rng = np.random.default_rng(5)
    return [
        rng.integers(0, 256, (7, 4, 3), dtype=np.uint8),
        rng.integers(0, 9, 7, dtype=np.uint8),
        rng.integers(0, 256, (2, 4, 3), dtype=np.uint8),
        np.array([9, 0], np.uint8),
    ]


def write_folder(arrays, spelling=str):
    for name, array in zip(NAMES, arrays, strict=True):
        write(f"fashion/{spelling(name)}", idx(array))


@pytest.mark.parametrize(
    "spelling",
    [
        str,
        lambda name: name + ".gz",
        lambda name: name.replace("-idx", ".idx"),
        lambda name: name.replace("-idx", ".idx") + ".gz",
    ],
    ids=["plain", "gzip", "dot", "dot gzip"],
)
def test_a_folder_in_mnists_format_is_read(arrays, spelling):
    write_folder(arrays, spelling)
    dataset = load_idx("fashion")
    assert dataset.name == "fashion"
    assert dataset.classes == tuple("0123456789")
    for part, (images, labels) in ((dataset.train, arrays[:2]), (dataset.test, arrays[2:])):
        np.testing.assert_array_equal(part.images, images[..., None], strict=True)
        np.testing.assert_array_equal(part.labels, labels.astype(np.int32), strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named_with_the_spellings_that_were_tried(arrays, name):
    write_folder(arrays)
    Path("fashion", name).unlink()
    Path("fashion", name).mkdir()  # some archives unpack to a folder of that name
    with pytest.raises(FileNotFoundError, match=rf"fashion: expected .*{name}, {name}\.gz, .*\.idx"):
        load_idx("fashion")


def test_counts_that_differ_are_named(arrays):
    arrays[3] = arrays[3][:1]
    write_folder(arrays)
    with pytest.raises(ValueError, match="fashion: test: expected one label per image, got 2 images and 1 labels"):
        load_idx("fashion")


@pytest.mark.parametrize(
    ("which", "wrong"),
    [(0, np.zeros((7, 12), np.uint8)), (0, np.zeros((7, 4, 3), np.int16)), (3, np.zeros((2, 1), np.uint8))],
)
def test_other_axes_or_dtypes_are_named(arrays, which, wrong):
    arrays[which] = wrong
    write_folder(arrays)
    with pytest.raises(ValueError, match=rf"{NAMES[which]}: expected \d axes of uint8, got shape"):
        load_idx("fashion")
