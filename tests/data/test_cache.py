from pathlib import Path

import pytest

from jaxnn.data import cache_dir


@pytest.mark.parametrize(
    ("chosen", "shared", "expected"),
    [
        ("/a/b", "/x", "/a/b"),
        ("~/b", None, "/home/me/b"),
        (None, "/x", "/x/jaxnn"),
        (None, "relative", "/home/me/.cache/jaxnn"),
        ("", "", "/home/me/.cache/jaxnn"),
        (None, None, "/home/me/.cache/jaxnn"),
    ],
)
def test_order_of_places(monkeypatch, chosen, shared, expected):
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in (("JAXNN_DATA", chosen), ("XDG_CACHE_HOME", shared)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)


def test_without_a_home_folder_the_error_says_what_to_set(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    for name in ("JAXNN_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FileNotFoundError, match="HOME: expected the path of a home folder, got none; set HOME"):
        cache_dir()
