import io
import sys

import pytest

from jaxnn.train.run.progress import Progress, clock

RECORD = {
    "epoch": 1,
    "step": 10,
    "train_loss": 0.123456,
    "train_accuracy": 0.9512,
    "train_grad_norm": 1.0,
    "test_loss": 0.2,
    "test_accuracy": 0.9,
    "seconds": 2.0,
    "examples_per_second": 12345.6,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_an_epoch(capsys):
    with Progress(12) as shown:
        shown.doing("compiling")
        shown.epoch(RECORD, 3725)
        shown.epoch(RECORD | {"epoch": 12}, 0)
    first, last = capsys.readouterr().out.splitlines()
    assert first == (
        "epoch  1/12  train loss 0.1235  train accuracy 95.12 %  test loss 0.2  test accuracy 90.00 %  "
        "12,345 examples/s  1:02:05 left"
    )
    assert last.endswith("12,345 examples/s")


def test_nothing_when_disabled(capsys):
    with Progress(2, enabled=False) as shown:
        shown.say("hello")
        shown.epoch(RECORD, 1)
    assert capsys.readouterr().out == ""


def test_a_bar_on_a_terminal(monkeypatch):
    pytest.importorskip("rich", reason="the bar is drawn by rich")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with Progress(2) as shown:
        shown.doing("training")
        shown.epoch(RECORD, 65)
    text = terminal.getvalue()
    for part in ("epoch 1/2", "train accuracy 95.12 %", "training", "1/2", "1:05 left"):
        assert part in text


def test_lines_on_a_terminal_without_rich(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setitem(sys.modules, "rich", None)
    with Progress(2) as shown:
        shown.epoch(RECORD, 65)
    assert terminal.getvalue().count("\n") == 1


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3600, "1:00:00"), (-3, "0:00")])
def test_clock(seconds, text):
    assert clock(seconds) == text


class Full(io.StringIO):
    """A file on a full disk."""

    encoding = "ascii"

    def flush(self):
        raise OSError(28, "No space left on device")


def test_what_cannot_be_shown_is_escaped(monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, "ascii"))
    Progress(1).say("21 °C")
    assert out.getvalue() == b"21 \\xb0C\n"


def test_a_full_disk_is_reported_once_and_stops_nothing(monkeypatch):
    monkeypatch.setattr("sys.stdout", Full())
    shown = Progress(2)
    with pytest.warns(RuntimeWarning, match=r"cannot be written \(No space left on device\); the work continues"):
        shown.epoch(RECORD, 1)
    shown.epoch(RECORD, 0)  # a second warning would be an error here
