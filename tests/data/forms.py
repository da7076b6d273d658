"""Small published data sets in every form in which people have them, written byte by byte as the formats say."""

import gzip
import hashlib
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from jaxnn.data.published import File

COUNTS = {"train": 15, "test": 3}
SHAPES = {"cifar10": (32, 32, 3), "cifar100": (32, 32, 3), "mnist": (28, 28, 1), "fashion-mnist": (28, 28, 1)}
BATCHES = {
    "cifar10": {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
    "cifar100": {"train": ["train"], "test": ["test"]},
}


def pictures(name):
    """For each part `(N, H, W, C)` uint8 pictures and labels."""
    rng = np.random.default_rng(len(name))
    classes = 100 if name == "cifar100" else 10
    return {
        part: (rng.integers(0, 256, (count, *SHAPES[name]), np.uint8), rng.integers(0, classes, count))
        for part, count in COUNTS.items()
    }


def assert_is(dataset, name):
    assert dataset.name == name
    for part, (images, labels) in pictures(name).items():
        examples = getattr(dataset, part)
        np.testing.assert_array_equal(examples.images, images, strict=True)
        np.testing.assert_array_equal(examples.labels, labels)
        assert examples.labels.dtype == np.int32
        assert examples.images.flags.c_contiguous


def write_binary(name, folder):
    for part, (images, labels) in pictures(name).items():
        names = BATCHES[name][part]
        each = len(labels) // len(names)
        for i, batch in enumerate(names):
            content = bytearray()
            for n in range(i * each, (i + 1) * each):
                content += bytes([7]) if name == "cifar100" else b""  # the superclass
                content.append(labels[n])
                for channel in range(3):
                    for row in range(32):
                        for column in range(32):
                            content.append(images[n, row, column, channel])
            _write(folder / f"{batch}.bin", content)


def write_python(name, folder):
    for part, (images, labels) in pictures(name).items():
        names = BATCHES[name][part]
        each = len(labels) // len(names)
        for i, batch in enumerate(names):
            chosen = slice(i * each, (i + 1) * each)
            rows = np.stack([image.transpose(2, 0, 1).ravel() for image in images[chosen]])
            key = "fine_labels" if name == "cifar100" else "labels"
            # Two batches of the published ones need not have the same order of axes.
            content = {"batch_label": f"batch {i}", key: labels[chosen].tolist(), "data": rows}
            _write(folder / batch, pickled(content, columns_first=i % 2 == 1))


def pickled(values, columns_first=False):
    """What Python 2's `cPickle.dumps(values, 2)` gives for strings, integers, lists of them and uint8 matrices."""
    memo = iter(range(1 << 20))

    def put():
        n = next(memo)
        return b"q" + bytes([n]) if n < 256 else b"r" + struct.pack("<i", n)

    def text(value):
        return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value

    def one(value):
        if isinstance(value, int):
            if 0 <= value < 256:
                return b"K" + bytes([value])
            return b"M" + struct.pack("<H", value) if 0 <= value < 65536 else b"J" + struct.pack("<i", value)
        if isinstance(value, str):
            return text(value.encode()) + put()
        if isinstance(value, list):
            return b"]" + put() + b"(" + b"".join(map(one, value)) + b"e"
        rows, columns = value.shape
        made = b"cnumpy.core.multiarray\n_reconstruct\n" + put() + b"cnumpy\nndarray\n" + put()
        made += one(0) + b"\x85" + put() + one("b") + b"\x87" + put() + b"R" + put()
        dtype = b"cnumpy\ndtype\n" + put() + one("u1") + one(0) + one(1) + b"\x87" + put() + b"R" + put()
        dtype += b"(" + one(3) + one("|") + b"NNN" + one(-1) + one(-1) + one(0) + b"tb"
        content = text(value.tobytes("F" if columns_first else "C")) + put()
        shape = one(rows) + one(columns) + b"\x86" + put()
        return made + b"(" + one(1) + shape + dtype + (b"\x88" if columns_first else b"\x89") + content + b"tb"

    items = b"".join(one(key) + one(value) for key, value in values.items())
    return b"\x80\x02}" + put() + b"(" + items + b"u."


def write_idx(name, folder, packed=False):
    for part, (images, labels) in pictures(name).items():
        split = "train" if part == "train" else "t10k"
        for kind, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels.astype(np.uint8))):
            content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
            path = folder / f"{split}-{kind}-ubyte{'.gz' if packed else ''}"
            _write(path, gzip.compress(content) if packed else content)


def write_idx_gz(name, folder):
    write_idx(name, folder, packed=True)


def write_npz(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, (images, labels) in pictures(name).items():
        arrays |= {f"x_{part}": images[..., 0], f"y_{part}": labels.astype(np.uint8)}
    np.savez_compressed(folder / "mnist.npz", **arrays)


def write_parquet(name, folder, shards=2):
    pa, pq, pillow = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet", "PIL.Image"))
    folder.mkdir(parents=True, exist_ok=True)
    picture, label = ("img", "fine_label") if name == "cifar100" else ("image", "label")
    picture = "img" if name == "cifar10" else picture
    for part, (images, labels) in pictures(name).items():
        for shard, chosen in enumerate(np.array_split(np.arange(len(labels)), shards)):
            rows = []
            for n in chosen:
                png = io.BytesIO()
                pillow.fromarray(images[n].squeeze()).save(png, "PNG")
                row = {picture: {"bytes": png.getvalue(), "path": f"{n}.png"}, label: int(labels[n])}
                rows.append(row | ({"coarse_label": 3} if name == "cifar100" else {}))
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{part}-{shard:05}-of-{shards:05}.parquet")


def pack(folder, name):
    """A tar archive of a folder under that name."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.add(folder, name)
    return content.getvalue()


def file_of(name, content):
    return File(name, hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest(), len(content))


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)
