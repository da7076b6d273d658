"""The script in docs/experiments.md, a person's own, has the command line that the page says it has."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from jaxnn import cli
from tests.test_readme import ROOT, blocks


@pytest.fixture
def start(monkeypatch):
    """Starts the script of the page with these words."""
    (code,) = blocks(ROOT / "docs/experiments.md")
    Path("line.py").write_text(code)
    spec = importlib.util.spec_from_file_location("line", "line.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "line", script)
    spec.loader.exec_module(script)
    return lambda *words: cli.run(script.main, script.Options, script.__doc__, words)


def test_it_keeps_its_run_and_resumes_it_to_the_same_numbers(start, capsys):
    start("--epochs", "1", "--dry-run")
    assert "nothing was trained" in capsys.readouterr().out
    assert not Path("runs").exists()
    start("--epochs", "2")
    whole = json.loads(Path("runs/line/result.json").read_text())
    start("--resume", "runs/line", "--checkpoint-every", "2")
    assert json.loads(Path("runs/line/result.json").read_text()) == whole
    assert {path.name for path in Path("runs/line").iterdir()} >= {"checkpoints", "curves.png", "metrics.jsonl"}


def test_a_wrong_option_is_named_and_help_explains_each(start, capsys):
    with pytest.raises(SystemExit, match="2"):
        start("--noise", "-1")
    assert capsys.readouterr().err == "error: --noise: expected a finite number that is not negative, got -1.0\n"
    with pytest.raises(SystemExit, match="0"):
        start("--help")
    shown = " ".join(re.sub("[│─]", " ", capsys.readouterr().out).split())
    assert "Fits a line." in shown
    assert re.search("--noise FLOAT .*Standard deviation of the targets' noise", shown)
