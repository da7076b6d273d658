import io
import sys

import pytest

from jaxnn.data.progress import DownloadProgress

MIB = 1 << 20


def test_silent_when_not_enabled(capsys):
    with DownloadProgress("x", enabled=False) as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("rich", [True, False])
def test_a_line_for_every_tenth_where_nobody_watches(capsys, monkeypatch, rich):
    if not rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    with DownloadProgress("x") as report:
        for done in range(201):
            report(done * MIB, 200 * MIB)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 11
    assert (lines[0], lines[5], lines[10]) == (
        "x:   0% of 200.0 MiB",
        "x:  50% of 200.0 MiB",
        "x: 100% of 200.0 MiB",
    )


def test_lines_where_the_length_is_unknown(capsys):
    with DownloadProgress("x") as report:
        for done in range(33):
            report(done * MIB, None)
    assert capsys.readouterr().err.splitlines() == ["x: 0.0 MiB", "x: 16.0 MiB", "x: 32.0 MiB"]


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    pytest.importorskip("rich", reason="the bar is rich's")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with DownloadProgress("pictures") as report:
        report(0, None)
        report(50 * MIB, 100 * MIB)
    out, err = capsys.readouterr()
    assert out == ""
    assert "pictures" in err
    assert "50.0/100.0 MiB" in err


def test_a_full_disk_stops_no_download(monkeypatch):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    with DownloadProgress("x") as report, pytest.warns(RuntimeWarning, match="cannot be written"):
        report(0, 100)
    report(50, 100)  # a second warning would be an error here
