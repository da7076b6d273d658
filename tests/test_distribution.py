"""The package: what its import costs and offers, and what it says of another project with the same import name."""

import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

import jaxnn
from jaxnn import distribution

ROOT = Path(jaxnn.__file__).parents[1]


def python(code, *, root=ROOT):
    """What a new process prints; it imports `jaxnn` from `root`."""
    # `-c` puts the current folder first on the path.
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import jaxnn; print(*sorted(set(sys.modules) - before))"
    assert python(code) == ["jaxnn"]


def test_sub_packages_come_when_they_are_used():
    code = (
        "import sys, jaxnn; print(*dir(jaxnn)); jaxnn.data.load_digits; print('jax' in sys.modules);"
        "print(jaxnn.functional.conv.__name__); from jaxnn import shapes"
    )
    *names, with_data, conv = python(code)
    assert [name for name in names if not name.startswith("__")] == jaxnn.__all__
    assert (with_data, conv) == ("False", "conv")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'jaxnn' has no attribute 'layers'"):
        jaxnn.layers  # noqa: B018
    assert not hasattr(jaxnn, "layers")


def test_the_names_for_type_checkers_are_those_of_the_package():
    text = Path(jaxnn.__file__).read_text("utf-8")
    assert re.findall(r"^    from jaxnn import (\w+) as \1$", text, re.MULTILINE) == jaxnn.__all__


def test_the_package_of_another_project_is_refused():
    with pytest.raises(ImportError, match=r"of the distribution jaxnn-layers, got that of jaxnn, another project.*pip"):
        distribution.check(ModuleType("jaxnn"), ROOT)


def test_another_project_beside_it_is_reported(tmp_path):
    with warnings.catch_warnings():
        (tmp_path / "jaxnn_layers-0.1.0.dist-info").mkdir()
        distribution.check(jaxnn, tmp_path)
    (tmp_path / "jaxnn-0.2.0.dist-info").mkdir()
    with pytest.warns(RuntimeWarning, match=r"got jaxnn beside it.*`pip uninstall jaxnn jaxnn-layers`"):
        distribution.check(jaxnn, tmp_path)


@pytest.mark.parametrize("room", ["functional", "train"])
def test_that_is_the_first_thing_that_a_program_hears_of(room, tmp_path):
    """The other project was installed later: its files replaced ours."""
    for folder in ("", "data", "models"):
        (tmp_path / "jaxnn" / folder).mkdir(parents=True)
        (tmp_path / "jaxnn" / folder / "__init__.py").write_text('__version__ = "0.2.0"\n')
    (tmp_path / "jaxnn" / "distribution.py").write_text((ROOT / "jaxnn" / "distribution.py").read_text("utf-8"))
    (tmp_path / "jaxnn" / room).symlink_to(ROOT / "jaxnn" / room)
    code = f"""
try:
    from jaxnn import {room}
except ImportError as error:
    print(error)
"""
    assert "another project" in " ".join(python(code, root=tmp_path))
