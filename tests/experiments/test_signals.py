"""SIGTERM and Ctrl-C at an experiment, as a user meets them: the printed command resumes the run."""

import shlex
import signal
import time

import pytest

from experiments import char_lm
from tests.experiments.stops import resume
from tests.train.children import start

SIZES = "--hidden 8 --embed 4 --streams 4 --chunk 8 --segment 5 --epochs 100000 --length 5 --checkpoint-seconds 0"


def stop(process, which, run):
    """Sends the signal once there is a newer checkpoint; the exit status, and the last line."""
    before = set(run.glob("checkpoints/[0-9]*"))
    while process.poll() is None and not set(run.glob("checkpoints/[0-9]*")) - before:
        time.sleep(0.01)
    process.send_signal(which)
    output, _ = process.communicate()
    return process.returncode, output.splitlines()[-1]


def test_the_command_that_resumes_is_printed_and_nobody_else_can_resume_meanwhile(tmp_path, monkeypatch):
    (tmp_path / "book.txt").write_text("the cat sat on the mat. " * 60, encoding="utf-8")
    typed = f"python -m experiments.char_lm --text book.txt {SIZES}"
    run = tmp_path / "runs" / "char_lm"
    for which in (signal.SIGTERM, signal.SIGINT):
        with start(*shlex.split(typed)[1:], cwd=tmp_path) as process:
            try:
                if which == signal.SIGINT:
                    refuse_while_it_runs(process, run, monkeypatch)
                code, last = stop(process, which, run)
            finally:
                process.kill()
        assert code == 128 + which, last
        said, typed = last.split("; to resume: ")
        step = max(int(path.name) for path in run.glob("checkpoints/[0-9]*"))
        assert said == f"{which.name} stopped training after step {step}, which is saved in runs/char_lm/checkpoints"
        assert typed == "python -m experiments.char_lm --resume runs/char_lm"


def refuse_while_it_runs(process, run, monkeypatch):
    while process.poll() is None and not (run / "checkpoints" / ".lock").exists():
        time.sleep(0.01)
    monkeypatch.chdir(run.parents[1])
    with pytest.raises(SystemExit, match=r"error: checkpoints: another process is training with .*; wait until it has"):
        resume(char_lm, "runs/char_lm", monkeypatch)
