"""The code of the README and of the guides in docs runs; their links and names, and those of the changelog, exist."""

import dataclasses
import importlib
import importlib.util
import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CHANGELOG.md", *GUIDES]


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL))


@pytest.mark.parametrize("block", blocks(README), ids=lambda block: block.split("\n")[-2][:30])
def test_code_of_the_readme_runs(block):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(block.replace("epochs=10", "epochs=1"), {})


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_code_of_a_guide_runs_in_one_piece(page):
    code = compile("\n".join(blocks(page)), page.name, "exec")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(code, {"__name__": page.stem})


def test_the_readme_is_read_in_five_minutes():
    assert len(README.read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_files_that_a_page_names_exist(page):
    text = page.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    files = [code for code in inline_code(page) if re.fullmatch(r"(jaxnn|experiments|tests|docs)/[\w/.]*", code)]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing + [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_that_a_page_mentions_exist(page):
    names = re.findall(
        r"\b(F|cli|data|inspect|interop|kernels|models|modules|plots|testing|train)((?:\.[A-Za-z_]\w*)+)", _code(page)
    )
    rooms = {"F": "jaxnn.functional"}
    missing = []
    for room, path in sorted(set(names)):
        found = importlib.import_module(rooms.get(room, f"jaxnn.{room}"))
        for name in path.split(".")[1:]:
            found = getattr(found, name, None)
        if found is None:
            missing.append(room + path)
    experiments = set(re.findall(r"\b(experiments(?:\.[a-z]\w*)+)", _code(page)))
    assert missing + [name for name in sorted(experiments) if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".ci" / "run"], ids=lambda page: page.stem)
def test_options_of_commands_that_a_page_names_exist(page):
    """Not those of `serve` and the benchmarks, which read their own command lines."""
    if not page.exists():
        pytest.skip("the sdist has no CI")
    text = page.read_text("utf-8").replace("\\\n", " ")
    commands = re.findall(r"(?:-m experiments\.|^experiment |&& experiment )([a-z]\w*) ([^`|&#\n]*)", text, re.M)
    missing = []
    for script, words in commands:
        options = getattr(importlib.import_module(f"experiments.{script}"), "Options", None)
        if options is not None:
            known = {field.name for field in dataclasses.fields(options)} | {"help", "config"}
            given = [word.replace("-", "_") for word in re.findall(r"--([a-z][\w-]*)", words)]
            missing += [f"{script} --{name}" for name in given if name.removeprefix("no_") not in known]
    assert missing == []


def _code(page: Path) -> str:
    """Code in the text, without paths of files and names that another package has."""
    return "\n".join(code for code in inline_code(page) if "/" not in code and not code.startswith(("nnx.", "jax.")))
