"""Configurations from files: three formats that say the same, and what is wrong in one told by its name."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from experiments import char_lm, detect, lenet5, mlp
from jaxnn.train.run import load_config


@dataclasses.dataclass
class Options:
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 0.1
    chunk: int | None = None
    flip: bool = False
    normalize: bool = True
    run: Path = Path("runs/x")


def read(name, text, default=Options()):  # noqa: B008
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return load_config(path, default)


SAME = {
    "a.toml": 'hidden = [3, 4]\nlearning-rate = 1e-3\nflip = true\nnormalize = false\nrun = "runs/é = 1"\n',
    "a.yaml": "hidden: [3, 4]\nlearning-rate: 0.001\nflip: yes\nnormalize: no\nrun: runs/é = 1\n",
    "a.yml": "hidden:\n- 3\n- 4\nlearning_rate: 0.001\nflip: true\nnormalize: false\nrun: 'runs/é = 1'\n",
    "a.json": '{"hidden": [3, 4], "learning_rate": 1e-3, "flip": true, "normalize": false, "run": "runs/é = 1"}',
}


@pytest.mark.parametrize("name", SAME)
def test_the_formats_say_the_same(name):
    assert read(name, SAME[name]) == Options((3, 4), 0.001, None, True, False, Path("runs/é = 1"))


def test_nothing_is_a_value_too():
    assert read("config.json", '{"chunk": null, "hidden": []}', Options(chunk=3)) == Options(hidden=())


def test_a_number_that_yaml_takes_for_text_is_kept():
    assert read("a.yaml", "learning_rate: 1e-3\n").learning_rate == 1e-3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "epoch = 3\n", r"a.toml: expected names among chunk, flip, hidden, learning_rate, .*, got 'epoch'"),
        ("a.yaml", "3: 4\n", "a.yaml: expected names among .*, got 3"),
        ("a.toml", "[train]\nflip = true\n", "expected names among .*, got 'train'"),
        (
            "a.toml",
            "[hidden]\nfirst = 3\n",
            "a.toml: hidden: expected a list, each of it a whole number, got {'first': 3}",
        ),
        ("a.toml", 'flip = "yes"\n', "a.toml: flip: expected true or false, got 'yes'"),
        ("a.json", '{"flip": null}', "a.json: flip: expected true or false, got None"),
        ("a.yaml", "learning-rate: true\n", "a.yaml: learning-rate: expected a number, got True"),
        ("a.toml", "flip = \n", "a.toml: expected names and values, got Invalid value"),
        ("a.yaml", "flip: [1\n", "a.yaml: expected names and values, got while parsing"),
        ("a.json", "{", "a.json: expected names and values, got Expecting"),
        ("a.yaml", "", "a.yaml: expected names and values, got a NoneType"),
        ("a.json", "[1]", "a.json: expected names and values, got a list"),
        ("a.toml", "hidden = " + "[" * 9999, "a.toml: .* nested too deeply"),
        ("a.json", '{"hidden": ' + "[" * 99999, "a.json: .* nested too deeply"),
        ("a.yaml", "hidden: " + "[" * 9999, "a.yaml: .* nested too deeply"),
        ("a.yaml", "hidden: [&a [1, 1], &b [*a, *a], [*b, *b]]\n", r"a.yaml: hidden: expected a list, .*, got \[\["),
        (
            "a.json",
            '{"hidden": [[1]]}',
            r"a.json: hidden: expected a list, each of it a whole number, got \[\[1\]\]",
        ),
        ("a.json", '{"run": "a\\u0000"}', "a.json: run: expected a path, got"),
        ("a.json", " " * 2**20 + "{}", "a.json: expected at most 1,048,576 bytes"),
        ("a.json", '{"chunk": ' + "1" * 5000 + "}", "a.json: expected names and values, got Exceeds the limit"),
        ("a.ini", "flip = true", "a.ini: expected a name that ends with .toml, .yaml, .yml or .json, got '.ini'"),
    ],
)
def test_what_is_wrong_is_reported(name, text, message):
    with pytest.raises(ValueError, match=message):
        read(name, text)


def test_what_cannot_be_read_is_reported():
    with pytest.raises(ValueError, match=r"a.toml cannot be read: No such file or directory"):
        load_config("a.toml", Options())
    Path("folder.toml").mkdir()
    with pytest.raises(ValueError, match=r"folder.toml cannot be read: Is a directory"):
        load_config("folder.toml", Options())
    Path("b.toml").write_bytes(b"run = '\xff'")
    with pytest.raises(ValueError, match=r"b.toml: expected names and values, got 'utf-8' codec can't decode"):
        load_config("b.toml", Options())


def test_without_pyyaml_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"pyyaml is not installed; install it with: pip install .*\[experiments\]"):
        read("a.yaml", "flip: true\n")


@pytest.mark.parametrize("options", [script.Options for script in (lenet5, mlp, char_lm, detect)])
def test_the_configuration_of_a_run_is_a_file_of_options(options):
    """Every option of an experiment survives the way into config.json and back."""
    chosen = options(seed=7, run=Path("runs/there"))
    text = json.dumps(dataclasses.asdict(chosen), default=str)
    assert read("config.json", text, options()) == chosen
