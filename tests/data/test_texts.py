"""Texts of a person's own: what is read, what is held out, and what is wrong named with its file or line."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxnn.data import load_texts

CLASSES = {"bad": ["dull", "flat", "poor"], "good": ["fine", "great", "kind", "warm"]}


def write_folder(root, classes, ending=".txt"):
    for name, texts in classes.items():
        folder = Path(root) / name
        folder.mkdir(parents=True)
        for number, text in enumerate(texts):
            (folder / f"{number}{ending}").write_text(text, encoding="utf-8")


def write_csv(path, *lines):
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def pairs(part, classes):
    return Counter((text, classes[label]) for text, label in zip(*part, strict=True))


def everything(dataset):
    return pairs(dataset.train, dataset.classes) + pairs(dataset.test, dataset.classes)


def test_a_folder_and_a_csv_file_hold_the_same():
    write_folder("films", CLASSES)
    Path("films/.cache").mkdir()
    write_csv("films.csv", "text,label", *(f'"{t}",{name}' for name, texts in CLASSES.items() for t in texts))
    expected = Counter((text, name) for name, texts in CLASSES.items() for text in texts)
    for path in ("films", "films.csv"):
        films = load_texts(path, test_fraction=0.5)
        assert (films.name, films.classes) == ("films", ("bad", "good"))
        assert everything(films) == expected
        assert np.bincount(films.test.labels).tolist() == [2, 2]
        assert films.train.labels.dtype == np.int32


def test_the_seed_chooses_what_is_held_out_and_nothing_else_does():
    write_folder("films", {name: [f"{name} {n}" for n in range(20)] for name in "ab"})
    first, again, other = (load_texts("films", seed=seed).test.texts for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_parts_that_are_folders_are_kept():
    write_folder("films/train", CLASSES | {"unsup": ["unknown"]})
    write_folder("films/test", {"bad": ["awful"], "good": ["nice"]})
    films = load_texts("films")
    assert pairs(films.test, films.classes) == {("awful", "bad"): 1, ("nice", "good"): 1}
    assert len(films.train.texts) == 7
    assert films.classes == ("bad", "good")


def test_rows_of_one_document_are_held_out_together():
    rows = [f"{label} {d} {n},{label},{label}{d}" for label in "ab" for d in range(6) for n in range(3)]
    write_csv("all.csv", "text,label,document", *rows)
    split = load_texts("all.csv", test_fraction=0.3)
    train, test = ({text.rsplit(" ", 1)[0] for text in part.texts} for part in (split.train, split.test))
    assert len(test) == 4
    assert not train & test
    assert len(split.test.texts) == 12


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["text,label", "a,x", "b,x"], r"all.csv: expected texts of at least two classes, got 'x'; each class is"),
        (["text,label"], "at least two classes, got none"),
        (
            ["words,label", "a,x"],
            "all.csv: expected a header with the columns text and label, got words, label; name a column text",
        ),
        (["text,label", "a,x", ",y"], r"all.csv, line 3: expected a text and a label, got '' and 'y'"),
        (["text,label", "a"], r"all.csv, line 2: expected a text and a label, got 'a' and ''"),
        (["text,label", "a,x", "b,x", "c,y"], "expected at least two documents of the class 'y', .* got 1"),
        (
            ["text,label", "a,x", "well, a,x"],
            r"all.csv, line 3: expected 2 cells, as the header has, got 3; put texts with",
        ),
        (["text,label", '"a"b,x'], r"all.csv, line 2: expected CSV, got .*; put texts with"),
    ],
)
def test_a_wrong_csv_file_is_named(lines, message):
    write_csv("all.csv", *lines)
    with pytest.raises(ValueError, match=message):
        load_texts("all.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: Path("films/empty").mkdir(), "films/empty: expected .*texts of the class 'empty', got none"),
        (lambda: Path("films/bad/0.txt").write_text(" \n"), "films/bad/0.txt: expected a text, got an empty file"),
        (
            lambda: Path("films/bad/0.txt").write_bytes(b"caf\xe9 au lait"),
            "films/bad/0.txt: expected UTF-8 text, got .* at byte 3; convert it",
        ),
        (lambda: Path("films/bad").rename("bad"), "films: expected texts of at least two classes, got 'good'"),
        (lambda: write_folder("films", {"one": ["a"]}), "expected at least two documents of the class 'one'"),
    ],
)
def test_a_wrong_folder_is_named(change, message):
    write_folder("films", CLASSES)
    change()
    with pytest.raises(ValueError, match=message):
        load_texts("films")


def test_a_class_of_test_that_nobody_can_learn_is_named():
    write_folder("films/train", CLASSES)
    write_folder("films/test", {"bad": ["awful"], "good": ["nice"], "odd": ["x"]})
    with pytest.raises(ValueError, match="films/train: expected a folder for each class of test, got none for 'odd'"):
        load_texts("films")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_fraction": 0.0}, "test_fraction: expected a number above 0 and below 1, got 0.0"),
        ({"test_fraction": float("nan")}, "test_fraction: expected"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
    ],
)
def test_arguments_out_of_range_are_named(options, message):
    write_folder("films", CLASSES)
    with pytest.raises(ValueError, match=message):
        load_texts("films", **options)


def test_long_texts_and_spaces_in_the_header():
    write_csv("all.csv", "text, label", *(f"{'word ' * 30_000}{n},{label}" for label in "xy" for n in range(2)))
    limit = csv.field_size_limit()
    assert len(load_texts("all.csv").train.texts[0]) == 150_001
    assert csv.field_size_limit() == limit


def test_a_path_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="path: expected a folder of texts or a CSV file, got nowhere"):
        load_texts("nowhere")
