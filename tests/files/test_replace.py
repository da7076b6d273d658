import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jaxnn.files import replacing


def test_a_file_is_replaced_whole_or_not_at_all():
    path = Path("file.txt")
    path.write_text("old")

    def half():
        with replacing(path) as beside:
            beside.write_text("ha")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        half()
    assert path.read_text() == "old"
    with replacing(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in Path().iterdir()] == ["file.txt"]


def test_two_threads_replace_a_file_each_whole():
    def other():
        with replacing("file.txt") as beside:
            beside.write_text("theirs")

    with replacing("file.txt") as beside:
        beside.write_text("ours")
        with ThreadPoolExecutor(1) as thread:
            thread.submit(other).result()
        assert Path("file.txt").read_text() == "theirs"
    assert Path("file.txt").read_text() == "ours"


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(errno.ENOSPC, "No space left"), r"No space left: '.*notes\.txt'$"), (OSError("no place"), "^no place$")],
)
def test_a_full_disk_names_the_file(error, told, tmp_path):
    with pytest.raises(OSError, match=told), replacing(tmp_path / "notes.txt"):
        raise error
