import errno
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


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(errno.ENOSPC, "No space left"), r"No space left: '.*notes\.txt'$"), (OSError("no place"), "^no place$")],
)
def test_a_full_disk_names_the_file(error, told, tmp_path):
    with pytest.raises(OSError, match=told), replacing(tmp_path / "notes.txt"):
        raise error
