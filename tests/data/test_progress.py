import sys

import pytest

from jaxnn.data.progress import progress_bar

MIB = 1 << 20


def test_silent_when_not_enabled(capsys):
    with progress_bar("x", enabled=False) as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("rich", [True, False])
def test_a_line_for_every_tenth_where_nobody_watches(capsys, monkeypatch, rich):
    if not rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    with progress_bar("x") as report:
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
    with progress_bar("x") as report:
        for done in range(33):
            report(done * MIB, None)
    assert capsys.readouterr().err.splitlines() == ["x: 0.0 MiB", "x: 16.0 MiB", "x: 32.0 MiB"]


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    pytest.importorskip("rich", reason="the bar is rich's")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("pictures") as report:
        report(0, None)
        report(50 * MIB, 100 * MIB)
    out, err = capsys.readouterr()
    assert out == ""
    assert "pictures" in err
    assert "50.0/100.0 MiB" in err
