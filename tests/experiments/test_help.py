"""The command line of every experiment: `--help` explains every option."""

import ast
import dataclasses
import importlib
import inspect
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest

import experiments
from jaxnn import cli

FOLDER = Path(experiments.__file__).parent
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "run(main, Options, __doc__)" in path.read_text("utf-8"))


def explained(options):
    """Fields of a dataclass that have a string below them, those of its bases included."""
    fields = set()
    for cls in filter(dataclasses.is_dataclass, options.__mro__):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                fields.add(field.target.id)
    return fields


def _has_default(field):
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_option_is_explained(name, monkeypatch, capsys):
    script = importlib.import_module(f"experiments.{name}")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        cli.run(script.main, script.Options, script.__doc__)
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    fields = [field.name for field in dataclasses.fields(script.Options)]
    named = [f.name for f in dataclasses.fields(script.Options) if _has_default(f)]
    assert {f for f in named if f"--{f.replace('_', '-')}" not in shown} == set()
    assert set(fields) - explained(script.Options) == set()
    *_, last = (text for text in script.__doc__.strip().split("\n\n") if text[0].isalpha())
    assert " ".join(last.split()) in shown  # not broken within
    assert "\n\n\n" not in shown


def test_the_package_lists_its_scripts(capsys):
    runpy.run_module("experiments", run_name="__main__")
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]} == {*SCRIPTS, "bench", "serve"}


def test_help_may_be_read_in_part():
    arguments = [sys.executable, "-m", "experiments.mlp", "--help"]
    with subprocess.Popen(arguments, cwd=FOLDER.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as `--help | head` does
        errors = process.stderr.read().decode()
    assert (process.returncode, errors) == (0, "")


def test_too_little_memory_is_reported_without_a_traceback(monkeypatch):
    @dataclasses.dataclass
    class Options:
        batch_size: int = 1

    def main(options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 24832004416320 bytes.")

    monkeypatch.setattr("sys.argv", ["large"])
    with pytest.raises(SystemExit, match=r"the memory is not enough: .* try a smaller --batch-size"):
        cli.run(main, Options, "Needs much.")


def test_a_bad_value_names_what_is_allowed(monkeypatch, capsys):
    from experiments import lenet5

    monkeypatch.setattr("sys.argv", ["lenet5", "--data", "svhn"])
    with pytest.raises(SystemExit) as stop:
        cli.run(lenet5.main, lenet5.Options, lenet5.__doc__)
    assert stop.value.code != 0
    told = capsys.readouterr().err
    assert all(name in told for name in ("digits", "cifar10", "idx"))
