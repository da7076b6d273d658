"""Texts with a class each: folders and CSV files."""

import contextlib
import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxnn.data.dataset import check_held_out

PARTS = ("train", "test")


class Texts(NamedTuple):
    """Texts and the class of each.

    Attributes:
        texts: The texts.
        labels: The classes, int32 `(texts,)`.
    """

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int32]


class TextDataset(NamedTuple):
    """Texts for training and held-out texts.

    Attributes:
        name: The name of the data.
        train: The training texts.
        test: The held-out texts.
        classes: The name of each class.
    """

    name: str
    train: Texts
    test: Texts
    classes: tuple[str, ...]


def load_texts(path: str | os.PathLike[str], *, test_fraction: float = 0.2, seed: int = 0) -> TextDataset:
    r"""Reads your texts: a folder with one sub-folder per class, or a CSV file.

    Each `*.txt` file in a sub-folder is a text. If the folder contains `train` and `test` with such sub-folders, these
    are the two parts; a class without a folder in `test` is left out (`unsup` of the Large Movie Review Dataset).

    A CSV file has a header that names the columns `text` and `label`, and optionally `document`: rows of one document
    are held out together.

    Without a `test` folder, `test_fraction` of the documents of each class (at least one, and never all) are held out
    at random, the same ones for the same `seed`. A file is a document, and so is a row without `document`.

    Args:
        path: The folder, or the CSV file, in UTF-8.
        test_fraction: The fraction of each class that is held out, above 0 and below 1.
        seed: Chooses the held-out documents; 0 or above.

    Returns:
        The data set, with the classes in alphabetical order.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If there are fewer than two classes, a class has no texts or too few to hold one out, a file is not
            UTF-8, a text is empty, a column is missing, or an argument is out of range.

    References:
        Maas et al., Learning word vectors for sentiment analysis, 2011 (the Large Movie Review Dataset `aclImdb`,
        whose layout this reads).

    Example:
        >>> from pathlib import Path
        >>> from jaxnn import data
        >>> rows = [f"{word} film,{label}" for word, label in zip("abcd", ("good", "bad") * 2, strict=True)]
        >>> _ = Path("films.csv").write_text("\n".join(["text,label", *rows]))
        >>> films = data.load_texts("films.csv")
        >>> films.classes, films.train.labels, films.test.texts
        (('bad', 'good'), array([1, 0], dtype=int32), ('a film', 'b film'))
    """
    path = Path(path)
    check_held_out(test_fraction, seed)
    if not path.exists():
        raise FileNotFoundError(f"path: expected a folder of texts or a CSV file, got {path}, which does not exist")
    if path.is_dir() and all((path / part).is_dir() for part in PARTS):
        judged = {folder.name for folder in _folders(path / "test")}
        train, test = (_read_folder(path / part, judged) for part in PARTS)
        classes = _classes(path, train)
        if missing := sorted(judged - set(classes)):
            raise ValueError(f"{path / 'train'}: expected a folder for each class of test, got none for {missing[0]!r}")
        return TextDataset(path.name, _texts(train, classes), _texts(test, classes), classes)
    rows = _read_csv(path) if path.is_file() else _read_folder(path)
    classes, held = _classes(path, rows), _held_out(path, rows, test_fraction, seed)
    train, test = ([row for row in rows if (row.document in held) == part] for part in (False, True))
    return TextDataset(path.stem, _texts(train, classes), _texts(test, classes), classes)


class _Row(NamedTuple):
    text: str
    label: str
    document: str


def _read_csv(path: Path) -> list[_Row]:
    found: list[_Row] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file, _fields_of_any_length():
            rows = csv.reader(file, strict=True)
            header = [name.strip() for name in next(rows, [])]
            if missing := {"text", "label"} - set(header):
                raise ValueError(
                    f"{path}: expected a header with the columns text and label, got {', '.join(header) or 'nothing'}; "
                    f"name a column {min(missing)}, and put commas between columns."
                )
            for cells in filter(None, rows):
                if len(cells) > len(header):
                    raise ValueError(
                        f"{path}, line {rows.line_num}: expected {len(header)} cells, as the header has, got "
                        f"{len(cells)}; put texts with commas in quotation marks."
                    )
                row = dict(zip(header, cells, strict=False))
                text, label = row.get("text", "").strip(), row.get("label", "").strip()
                if not text or not label:
                    raise ValueError(
                        f"{path}, line {rows.line_num}: expected a text and a label, got {text!r} and {label!r}"
                    )
                found.append(_Row(text, label, row.get("document") or f"row {len(found) + 1}"))
    except UnicodeDecodeError as error:
        raise _undecodable(path, error) from error
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {rows.line_num}: expected CSV, got {error}; put texts with commas in quotation marks."
        ) from error
    return found


@contextlib.contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Python's reader takes 128 KiB a field otherwise; whole books are longer."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_folder(path: Path, only: set[str] | None = None) -> list[_Row]:
    found = []
    for folder in _folders(path):
        if only is not None and folder.name not in only:
            continue
        files = sorted(folder.glob("*.txt"))
        if not files:
            raise ValueError(f"{folder}: expected *.txt files, the texts of the class {folder.name!r}, got none")
        for file in files:
            try:
                text = file.read_text(encoding="utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise _undecodable(file, error) from error
            if not text:
                raise ValueError(f"{file}: expected a text, got an empty file; delete it.")
            found.append(_Row(text, folder.name, str(file)))
    return found


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def _undecodable(path: Path, error: UnicodeDecodeError) -> ValueError:
    return ValueError(
        f"{path}: expected UTF-8 text, got {error.reason} at byte {error.start}; convert it: iconv -t UTF-8."
    )


def _classes(path: Path, rows: Sequence[_Row]) -> tuple[str, ...]:
    classes = tuple(sorted({row.label for row in rows}))
    if len(classes) < 2:
        raise ValueError(
            f"{path}: expected texts of at least two classes, got {', '.join(map(repr, classes)) or 'none'}; "
            "each class is a sub-folder of text files, or a label of a CSV file."
        )
    return classes


def _texts(rows: Sequence[_Row], classes: tuple[str, ...]) -> Texts:
    places = {label: place for place, label in enumerate(classes)}
    return Texts(tuple(row.text for row in rows), np.array([places[row.label] for row in rows], np.int32))


def _held_out(path: Path, rows: Sequence[_Row], fraction: float, seed: int) -> set[str]:
    """The documents that are held out, of each class."""
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    for label in sorted({row.label for row in rows}):
        own = sorted({row.document for row in rows if row.label == label})
        free = [document for document in own if document not in held]
        if len(own) < 2 or not free:
            raise ValueError(
                f"{path}: expected at least two documents of the class {label!r}, one of them to hold out, "
                f"got {len(own)}; write more."
            )
        number = min(max(1, round(fraction * len(own))), len(own) - 1) - (len(own) - len(free))
        held |= {free[place] for place in rng.permutation(len(free))[: max(0, number)]}
    return held
