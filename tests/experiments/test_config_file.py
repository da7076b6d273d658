"""Files of options: three formats that say the same, and what is wrong in one told by its name."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import tyro

from experiments import char_lm, compare, detect, lenet5, mlp
from experiments.cli import config_file


@dataclasses.dataclass
class Options:
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 0.1
    chunk: int | None = None
    flip: bool = False
    normalize: bool = True
    run: Path = Path("runs/x")


def arguments(name, text, options=Options):
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return [word for given in config_file.read(path, options) for word in given.words]


SAME = {
    "a.toml": 'hidden = [3, 4]\nlearning-rate = 1e-3\nflip = true\nnormalize = false\nrun = "runs/é = 1"\n',
    "a.yaml": "hidden: [3, 4]\nlearning-rate: 0.001\nflip: yes\nnormalize: no\nrun: runs/é = 1\n",
    "a.yml": "hidden:\n- 3\n- 4\nlearning_rate: 0.001\nflip: true\nnormalize: false\nrun: 'runs/é = 1'\n",
    "a.json": '{"hidden": [3, 4], "learning_rate": 1e-3, "flip": true, "normalize": false, "run": "runs/é = 1"}',
}


@pytest.mark.parametrize("name", SAME)
def test_the_formats_say_the_same(name):
    assert arguments(name, SAME[name]) == [
        *("--hidden", "3", "4"),
        *("--learning-rate=0.001", "--flip", "--no-normalize", "--run=runs/é = 1"),
    ]


def test_nothing_is_a_value_too():
    assert arguments("config.json", '{"chunk": null, "hidden": []}') == ["--chunk=None", "--hidden"]


def test_a_number_that_yaml_takes_for_text_is_kept():
    assert arguments("a.yaml", "learning_rate: 1e-3\n") == ["--learning-rate=1e-3"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "epoch = 3\n", r"a.toml: there is no option 'epoch'; there are chunk, flip, hidden, learning_rate,"),
        ("a.yaml", "3: 4\n", "a.yaml: there is no option 3"),
        ("a.toml", "[train]\nflip = true\n", "there is no option 'train'"),
        ("a.toml", "[hidden]\nfirst = 3\n", "a.toml: hidden: expected one value or a list, got a table"),
        ("a.toml", 'flip = "yes"\n', "a.toml: flip: expected true or false, got 'yes'"),
        ("a.json", '{"flip": null}', "a.json: flip: expected true or false, got None"),
        ("a.yaml", "learning-rate: true\n", "a.yaml: learning-rate: expected a number, got true"),
        ("a.toml", "flip = \n", "a.toml holds no options: Invalid value"),
        ("a.yaml", "flip: [1\n", "a.yaml holds no options: while parsing"),
        ("a.json", "{", "a.json holds no options: Expecting"),
        ("a.yaml", "", "a.yaml holds no options: expected names and values, got a NoneType"),
        ("a.json", "[1]", "a.json holds no options: expected names and values, got a list"),
        ("a.toml", "hidden = " + "[" * 9999, "a.toml holds no options: it is nested too deeply"),
        ("a.json", '{"hidden": ' + "[" * 99999, "a.json holds no options: it is nested too deeply"),
        ("a.yaml", "hidden: " + "[" * 9999, "a.yaml holds no options: it is nested too deeply"),
        ("a.yaml", "a: &a [1, 1]\nb: &b [*a, *a]\n", r"a.yaml holds no options: an alias \(\*name\) cannot"),
        ("a.yaml", "a: &a {x: 1}\nb: {<<: *a}\n", r"a.yaml holds no options: an alias \(\*name\) cannot"),
        (
            "a.json",
            '{"hidden": [[1]]}',
            "a.json: hidden: expected one value or a list of single values, got lists in a",
        ),
        ("a.json", '{"run": "a\\u0000"}', "a.json: run: expected a text, got one with the character NUL"),
        ("a.json", " " * 2**20 + "{}", "a.json holds no options: it is larger than 1,048,576 bytes"),
        ("a.json", '{"chunk": ' + "1" * 5000 + "}", "a.json holds no options: Exceeds the limit"),
        ("a.ini", "flip = true", "a.ini holds no options: its name must end with .toml, .yaml, .yml or .json"),
    ],
)
def test_what_is_wrong_is_told(name, text, message):
    with pytest.raises(ValueError, match=message):
        arguments(name, text)


def test_what_cannot_be_read_is_told():
    with pytest.raises(ValueError, match=r"a.toml cannot be read: No such file or directory"):
        config_file.read(Path("a.toml"), Options)
    Path("folder.toml").mkdir()
    with pytest.raises(ValueError, match=r"folder.toml cannot be read: Is a directory"):
        config_file.read(Path("folder.toml"), Options)
    Path("b.toml").write_bytes(b"run = '\xff'")
    with pytest.raises(ValueError, match=r"b.toml holds no options: 'utf-8' codec can't decode"):
        config_file.read(Path("b.toml"), Options)


def test_what_has_no_name_when_typed_cannot_be_in_a_file():
    with pytest.raises(ValueError, match=r"a.toml: runs is typed, without a name, and cannot be in a file"):
        arguments("a.toml", 'runs = ["runs/a"]', compare.Options)


def test_without_pyyaml_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"YAML needs pyyaml: pip install .*\[experiments\]"):
        arguments("a.yaml", "flip: true\n")


@pytest.mark.parametrize("options", [script.Options for script in (lenet5, mlp, char_lm, detect)])
def test_the_configuration_of_a_run_is_a_file_of_options(options):
    """Every option of an experiment survives the way into config.json and back."""
    chosen = options(seed=7, run=Path("runs/there"))
    text = json.dumps(dataclasses.asdict(chosen), default=str)
    assert tyro.cli(options, args=arguments("config.json", text, options)) == chosen
