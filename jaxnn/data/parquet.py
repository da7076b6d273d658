"""Data sets as the Hugging Face Hub keeps them: Parquet files with a PNG file and a label in each row."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from jaxnn import extras
from jaxnn.data.dataset import Examples
from jaxnn.data.published import Part, Published

_PICTURES, _LABELS = ("img", "image"), ("fine_label", "label")
_ROWS = 1_000  # at a time


class _RowError(Exception):
    """A row is not a picture of the data set and its label."""


# Of pyarrow and Pillow; a TypeError of a row without a picture, an IndexError of more rows than the file states.
_DAMAGED = _RowError, ValueError, OSError, SyntaxError, TypeError, KeyError, IndexError, OverflowError


def read_parquet(folder: Path, part: Part, published: Published) -> Examples:
    """Reads `train-*.parquet` or `test-*.parquet`, in the order of their names."""
    with extras.needed(f"{folder}: pyarrow or Pillow, which reading Parquet files needs,", "parquet"):
        import pyarrow.parquet as pq
        from PIL import Image
    paths = sorted(folder.glob(f"{part}-*.parquet"))
    if not paths:
        raise FileNotFoundError(f"{folder}: expected {part}-*.parquet, got none; download it too.")
    count = published.counts[part]
    images, labels = np.empty((count, *published.shape), np.uint8), np.empty(count, np.int32)
    done = 0
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                if done + file.metadata.num_rows > count:
                    raise _RowError(f"more than {count:,} rows")
                columns = [_column(file, _PICTURES), _column(file, _LABELS)]
                for rows in file.iter_batches(_ROWS, columns=columns):
                    for row in rows.to_pylist():
                        images[done] = _decode(Image, row[columns[0]]["bytes"], published.shape)
                        if type(label := row[columns[1]]) is not int:
                            raise _RowError(f"the label {label!r:.40}")
                        labels[done] = label
                        done += 1
        except (*_DAMAGED, Image.DecompressionBombError) as error:
            raise ValueError(
                f"{path}: expected rows of a PNG picture {published.shape} and a label, got a file that differs "
                f"at row {done:,} ({error}); download it again."
            ) from error
    return Examples(images[:done], labels[:done])


def _column(file: Any, names: tuple[str, ...]) -> str:
    found = [name for name in names if name in file.schema_arrow.names]
    if not found:
        raise _RowError(f"no column {' or '.join(names)}")
    return found[0]


def _decode(pillow: Any, content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    with pillow.open(io.BytesIO(content), formats=["PNG"]) as picture:  # reads the header alone
        got = (picture.height, picture.width, len(picture.getbands()))
        if got != shape or picture.mode not in ("L", "RGB"):
            raise _RowError(f"a picture {got} of mode {picture.mode}")
        return np.asarray(picture).reshape(shape)
