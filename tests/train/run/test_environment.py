import json
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest

from jaxnn import train
from jaxnn.train.run.environment import command_line, environment


def git(*arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def test_versions_and_devices():
    found = environment()
    assert found["versions"]["jax"] == jax.__version__
    assert sum(found["devices"].values()) == jax.device_count()
    assert (found["processes"], found["backend"]) == (jax.process_count(), jax.default_backend())
    assert "XLA_FLAGS" in found["settings"]


def test_the_commit_and_whether_files_differ_from_it():
    assert environment()["git"] is None
    git("init")
    assert environment()["git"] is None  # no commit yet
    Path("code.py").write_text("1")
    git("add", "code.py")
    git("commit", "-m", "one")
    Path("metrics.jsonl").write_text("not git's")
    found = environment()["git"]
    assert len(found["commit"]) == 40
    assert not found["dirty"]
    Path("code.py").write_text("2")
    assert environment()["git"] == {"commit": found["commit"], "dirty": True}


def test_without_git_there_is_no_commit_and_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["git"] is None


@pytest.mark.parametrize(
    ("module", "arguments", "line"),
    [
        (
            "experiments.lenet5",
            ["/at/lenet5.py", "--run", "my runs/a"],
            "python -m experiments.lenet5 --run 'my runs/a'",
        ),
        ("experiments.bench.__main__", ["/at/__main__.py"], "python -m experiments.bench"),
        (None, ["train.py", "--epochs", "3"], "python train.py --epochs 3"),
        (None, ["-c"], None),
        (None, [""], None),
    ],
)
def test_the_line_that_starts_the_program_again(monkeypatch, module, arguments, line):
    program = types.ModuleType("__main__")
    program.__spec__ = module and types.SimpleNamespace(name=module)
    monkeypatch.setitem(sys.modules, "__main__", program)
    monkeypatch.setattr(sys, "argv", arguments)
    assert command_line() == line
    run = train.RunFolder.create("run")
    run.save_environment()
    assert json.loads((run / "environment.json").read_text())["processes"] == 1
    assert (run / "command.txt").exists() == (line is not None)
