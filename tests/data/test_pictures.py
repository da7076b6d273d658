"""Folders of pictures with a class each: what is read, held out and cut, and what is wrong named with its folder."""

from pathlib import Path

import numpy as np
import pytest

from jaxnn import data

Image = pytest.importorskip("PIL.Image", reason="Pillow reads and writes the pictures")


def write(root, classes=("cat", "dog"), count=4, size=(24, 8)):
    """Pictures whose left and right ends are black, and whose middle tells class and number."""
    for label, name in enumerate(classes):
        Path(root, name).mkdir(parents=True)
        for number in range(count):
            picture = Image.new("RGB", size)
            picture.paste((100 * label + 10 * number, 50, 255), (4, 0, 20, 8))
            picture.save(Path(root, name, f"{number}.PNG"))


def colours(examples):
    assert (examples.images == examples.images[:, :1, :1]).all()
    return examples.images[:, 0, 0, 0].tolist()


def test_a_folder_is_cut_to_squares_and_some_of_each_class_are_held_out():
    write("pets")
    Path("pets/.cache").mkdir()
    Path("pets/cat/Thumbs.db").write_text("no picture")
    pets = data.load_pictures("pets", 4, test_fraction=0.25)
    assert (pets.name, pets.classes, pets.train.images.shape) == ("pets", ("cat", "dog"), (6, 4, 4, 3))
    assert pets.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert sorted(colours(pets.train) + colours(pets.test)) == [0, 10, 20, 30, 100, 110, 120, 130]
    assert [colour // 100 for colour in colours(pets.test)] == pets.test.labels.tolist() == [0, 1]
    again = data.load("folder", "pets", side=4)
    np.testing.assert_array_equal(again.test.images, pets.test.images)
    assert colours(data.load_pictures("pets", 4, seed=2).test) != colours(pets.test)


def test_parts_that_are_folders_are_kept():
    write("pets/train", count=1)
    write("pets/test", count=2)
    pets = data.load_pictures("pets", 8)
    assert (len(pets.train.labels), len(pets.test.labels)) == (2, 4)
    Path("pets/test/dog").rename("pets/test/wolf")
    with pytest.raises(ValueError, match=r"pets/test: expected the classes of train, cat, dog, got cat, wolf; make"):
        data.load_pictures("pets", 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: Path("pets/bird").mkdir(), r"pets/bird: expected pictures \(\*.bmp, .*\), got none; add some"),
        (lambda: write("pets", ("bird",), 1), r"pets/bird: expected two pictures or more, to hold one out, got 1"),
        (lambda: Path("pets/cat").rename("cat"), r"pets: expected a sub-folder of pictures for each .* two .* got dog"),
        (
            lambda: Path("pets/dog/1.png").write_text("no"),
            r"pets/dog/1.png: expected a picture, got what cannot",
        ),
    ],
    ids=["empty", "one", "one class", "no picture"],
)
def test_what_is_wrong_in_a_folder_is_named(change, message):
    write("pets", count=2)
    change()
    with pytest.raises(ValueError, match=message):
        data.load_pictures("pets", 8)


def test_wrong_arguments_are_named():
    with pytest.raises(FileNotFoundError, match="pets: expected a folder of pictures, got none"):
        data.load_pictures("pets")
    for options, message in (({"side": 0}, "side: expected"), ({"test_fraction": 1}, "test_fraction: expected")):
        with pytest.raises(ValueError, match=message):
            data.load_pictures("pets", **options)
