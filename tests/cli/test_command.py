"""The command line of a script: what of files and typing wins, and errors in a sentence."""

import dataclasses
import json
import signal
import sys
from pathlib import Path

import jax
import pytest

from jaxnn import cli, train
from jaxnn.cli import Count


@dataclasses.dataclass
class Options:
    """Options of an experiment that can resume."""

    hidden: tuple[int, ...] = (64, 64)
    """Features."""
    epochs: Count = 10
    """Passes."""
    flip: bool = False
    """Mirror."""
    resume: Path | None = None
    """The run."""


def start(monkeypatch, *typed, main=None, options=Options):
    """Starts an experiment with this command line, and gives the options that reach it."""
    seen = []
    monkeypatch.setattr("sys.argv", ["experiment", *typed])
    cli.run(main or seen.append, options, "An experiment.")
    return seen[0] if seen else None


@pytest.fixture
def parse(monkeypatch):
    return lambda *typed, **given: start(monkeypatch, *typed, **given)


def test_nothing_typed_is_the_defaults(parse):
    assert parse() == Options()


@pytest.mark.parametrize("typed", [("--config", "a.toml"), ("--config=a.toml",)])
def test_options_of_a_file(parse, typed):
    Path("a.toml").write_text("hidden = [3, 4, 5]\nflip = true\n")
    assert parse(*typed) == Options(hidden=(3, 4, 5), flip=True)


def test_what_is_typed_wins_wherever_it_is(parse):
    Path("a.toml").write_text("hidden = [3, 4, 5]\nepochs = 7\nflip = true\n")
    assert parse("--config", "a.toml", "--hidden", "6", "--no-flip") == Options(hidden=(6,), epochs=7)
    assert parse("--hidden", "6", "--no-flip", "--config", "a.toml") == Options(hidden=(6,), epochs=7)


def test_of_several_files_the_last_wins(parse):
    Path("a.toml").write_text("epochs = 7\nflip = true\n")
    Path("b.yaml").write_text("epochs: 8\n")
    assert parse("--config", "a.toml", "--config", "b.yaml") == Options(epochs=8, flip=True)


def test_a_run_that_continues_has_its_own_options_unless_a_file_or_typing_says_otherwise(parse):
    run = Path("runs/a")
    run.mkdir(parents=True)
    config = {"hidden": [3], "epochs": 7, "flip": True, "resume": None}
    (run / "config.json").write_text(json.dumps(config))
    assert parse("--resume", "runs/a") == Options((3,), 7, True, run)
    assert parse("--resume=runs/a", "--epochs", "9") == Options((3,), 9, True, run)
    Path("a.toml").write_text("flip = false\nepochs = 8\n")
    assert parse("--resume", "runs/a", "--config", "a.toml", "--epochs", "9") == Options((3,), 9, False, run)
    Path("b.toml").write_text('resume = "runs/a"\n')
    assert parse("--config", "b.toml") == Options((3,), 7, True, run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 'ten'\n", "error: a.toml: epochs: expected a whole number, got 'ten'"),
        ("hidden = [3, 0.5]\n", "error: a.toml: hidden: expected a list, each of it a whole number, got [3, 0.5]"),
        ("resume = ''\n", "error: a.toml: resume: expected a path or null, got ''"),
        ("epochs = 0\n", "error: a.toml: --epochs: expected a whole number of at least 1, got 0"),
        ("epochs = 100000000000000000000\n", "error: a.toml: --epochs: expected a whole number of at most 2147483647"),
    ],
)
def test_a_wrong_value_of_a_file_is_reported_with_the_file(parse, text, message, capsys):
    Path("a.toml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        parse("--config", "a.toml", main=cli.check)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(message)


def test_what_is_typed_over_a_file_is_not_blamed_on_it(parse, capsys):
    Path("a.toml").write_text("epochs = 3\n")
    with pytest.raises(SystemExit):
        parse("--config", "a.toml", "--epochs", "0", main=cli.check)
    assert capsys.readouterr().err == "error: --epochs: expected a whole number of at least 1, got 0\n"


def test_resume_is_an_option_like_others_where_runs_cannot_go_on(parse, capsys):
    @dataclasses.dataclass
    class Without:
        epochs: Count = 10

    with pytest.raises(SystemExit) as stop:
        parse("--resume", "runs/a", options=Without)
    assert stop.value.code == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("--config",), "error: argument --config: expected one argument"),
        (("--config", "--flip"), "error: argument --config: expected one argument"),
        (("--resume",), "error: argument --resume: expected one argument"),
        (("--config", ""), "error: --config: expected a value, got ''"),
        (("--epochs", "ten"), "error: Error parsing --epochs: invalid literal for int() with base 10: 'ten'"),
        (("--config", "nowhere.toml"), "error: nowhere.toml cannot be read: No such file or directory"),
        (("--resume", "nowhere"), "error: nowhere/config.json cannot be read: No such file or directory"),
        (("--config", "a.toml"), "error: a.toml: expected names among epochs, flip, hidden, resume, got 'epoch'"),
    ],
)
def test_what_is_wrong_is_reported_in_a_sentence(parse, typed, message, capsys):
    Path("a.toml").write_text("epoch = 3\n")
    with pytest.raises(SystemExit) as stop:
        parse(*typed)
    assert (stop.value.code, capsys.readouterr().err) == (2, message + "\n")


def raises(error):
    def main(options):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("data.idx is damaged"), "error: data.idx is damaged"),
        (OSError("the disk is full"), "error: the disk is full"),
        (ImportError("plots need matplotlib"), "error: plots need matplotlib"),
        (
            train.loop.NonFiniteLossError("the loss became nan", epoch=1, step=2, history=[]),
            "stopped: the loss became nan",
        ),
        (train.devices.ProcessLostError("process 1 died"), "stopped: process 1 died"),
        (
            jax.errors.JaxRuntimeError("INTERNAL: Error dispatching: Out of memory allocating 2147483648 bytes."),
            "error: the memory is not enough: 2.0 GiB more could not be had; try a smaller --hidden",
        ),
        (
            MemoryError("Unable to allocate 512. TiB for an array"),
            "error: the memory is not enough (Unable to allocate 512. TiB for an array); try a smaller --hidden",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_a_person_can_mend_has_no_traceback(parse, error, told):
    with pytest.raises(SystemExit) as stop:
        parse(main=raises(error))
    assert stop.value.code == told


def test_what_is_a_mistake_of_ours_has_one(parse):
    with pytest.raises(ZeroDivisionError):
        parse(main=raises(ZeroDivisionError()))
    with pytest.raises(RuntimeError, match="unexpected"):
        parse(main=raises(RuntimeError("unexpected")))


def test_a_signal_ends_with_its_number_and_says_how_to_go_on(parse, capsys):
    Path("runs/a/checkpoints").mkdir(parents=True)
    Path("runs/a/config.json").write_text("{}")
    stopped = train.checkpoint.Interrupted(signal.SIGTERM, 45, saved=True, folder=Path("runs/a/checkpoints"))
    with pytest.raises(SystemExit) as stop:
        parse(main=raises(stopped))
    assert stop.value.code == 128 + 15
    assert "--resume runs/a" in capsys.readouterr().err


def test_ctrl_c_without_checkpoints_ends_with_its_number(parse, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(main=raises(KeyboardInterrupt()))
    assert stop.value.code == 128 + 2
    assert "stopped by Ctrl-C; what was measured so far is in the run folder" in capsys.readouterr().err


def test_without_tyro_the_extra_is_named(parse, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    with pytest.raises(SystemExit, match=r"error: jaxnn.cli: tyro is not installed; .*: pip install .*\[experiments\]"):
        parse()


@pytest.mark.parametrize("typed", [("--hidden", "3,4"), ("--hidden=3,4",), ("--hidden", "3", "4,")])
def test_values_with_commas_between_them_are_told_to_have_spaces(typed, parse, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(*typed)
    assert "; separate values by spaces: --hidden " in capsys.readouterr().err


def test_an_option_that_is_like_one_is_told_which(parse, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("--hiden", "3")
    assert "--hiden, 3; the option is --hidden" in capsys.readouterr().err
