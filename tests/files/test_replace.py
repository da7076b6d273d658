import errno

import pytest

from jaxnn.files import replacing


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(errno.ENOSPC, "No space left"), r"No space left: '.*notes\.txt'$"), (OSError("no place"), "^no place$")],
)
def test_a_full_disk_names_the_file(error, told, tmp_path):
    with pytest.raises(OSError, match=told), replacing(tmp_path / "notes.txt"):
        raise error
