"""The command that a missing optional dependency names."""

import tomllib
from pathlib import Path

import pytest

import jaxnn
from jaxnn import distribution, extras

PYPROJECT = Path(jaxnn.__file__).parents[1] / "pyproject.toml"


def test_a_checkout_names_itself(tmp_path, monkeypatch):
    root = tmp_path / "a checkout"
    monkeypatch.setattr(extras, "__file__", str(root / "jaxnn" / "extras.py"))
    root.mkdir()
    (root / "pyproject.toml").write_text('[project]\nname = "jaxnn-layers"\n')
    assert extras.install("data") == f"pip install -e '{root}[data]'"


def test_elsewhere_the_distribution_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "jaxnn" / "extras.py"))
    assert extras.install("data") == "pip install 'jaxnn-layers[data]'"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    assert extras.install("data") == "pip install 'jaxnn-layers[data]'"


def test_the_name_is_that_of_the_project():
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    assert project["name"] == distribution.NAME
    own = [line for lines in project["optional-dependencies"].values() for line in lines if line.startswith("jaxnn")]
    assert own
    assert all(line.startswith(f"{distribution.NAME}[") for line in own)


def test_no_message_installs_the_stranger_of_the_same_name():
    for folder in ("jaxnn", "experiments"):
        for file in (PYPROJECT.parent / folder).rglob("*.py"):
            assert "jaxnn[" not in file.read_text("utf-8"), file


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"^a: toy is not installed; install it with: pip install .*\[data\]"),
        (
            "import no_such_module",
            r"^a: toy is installed but broken \(No module .*_module'\); install it anew",
        ),
        ("from os import no_such_name", r"^a: toy is installed but broken \(cannot import name 'no_such_name'"),
    ],
)
def test_a_package_that_is_there_but_broken_is_told_from_one_that_is_missing(content, told, tmp_path, monkeypatch):
    if content is not None:
        (tmp_path / "broken_toy.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=told), extras.needed("a: toy", "data"):
        __import__("broken_toy")
