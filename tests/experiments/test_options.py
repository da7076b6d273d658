"""Every option of every experiment: a value that makes no sense is told in one sentence, before anything is made."""

import dataclasses
import importlib
import re
import typing
from pathlib import Path

import pytest

import experiments
from jaxnn import cli, train

FOLDER = Path(experiments.__file__).parent
SCRIPTS = {
    ".".join(path.relative_to(FOLDER).with_suffix("").parts): path
    for path in [*FOLDER.glob("*.py"), *FOLDER.glob("bench/*.py")]
    if "run(main, Options, __doc__)\n" in path.read_text("utf-8")
}
CREATE = train.RunFolder.__dict__["create"]
HUGE = str(10**30)
HOSTILE = {int: ("-1", HUGE, "1.5", "1" * 5000), float: ("nan", "-1", "ten"), Path: ("",), str: ("\udcff",)}
ENDLESS = {"clip", "checkpoint_seconds"}
"""Options that may be infinite: never clipped, no checkpoint on the way."""


def kinds(annotation):
    """The types that an option's words may have."""
    inner = [kind for each in typing.get_args(annotation) for kind in kinds(each)]
    return [annotation] if annotation in HOSTILE else inner


def cases():
    for name in SCRIPTS:
        options = importlib.import_module(f"experiments.{name}").Options
        for field in dataclasses.fields(options):
            for kind in kinds(field.type)[:1]:
                if field.default is not dataclasses.MISSING and (kind is not str or field.name == "coordinator"):
                    yield name, field.name, kind
            if typing.get_origin(field.type) is typing.Literal:
                yield name, field.name, typing.Literal


class StartedError(Exception):
    """The options were taken."""


@pytest.fixture
def refused(monkeypatch, capsys):
    """Starts an experiment with one option, and gives what it says in refusing it."""

    def folder(*arguments):
        raise StartedError

    def start(name, *typed):
        script = importlib.import_module(f"experiments.{name}")
        monkeypatch.setattr("sys.argv", [name, *typed])
        with pytest.raises(SystemExit) as stop:
            cli.run(script.main, script.Options, script.__doc__)
        said = capsys.readouterr()
        message = said.err if isinstance(stop.value.code, int) else f"{stop.value.code}\n"
        assert message.count("\n") == 1, message
        assert len(message) < 400
        assert not list(Path().iterdir())
        return stop.value.code, message

    monkeypatch.setattr(train.RunFolder, "create", folder)
    return start


@pytest.mark.parametrize(
    ("name", "field", "kind"), [*cases()], ids=lambda value: getattr(value, "__name__", str(value))
)
def test_no_option_takes_what_makes_no_sense(name, field, kind, refused):
    values = ("nothing",) if kind is typing.Literal else HOSTILE[kind]
    if kind is float and field not in ENDLESS:
        values += ("inf", "1e400")
    required = ("nowhere",) if name == "compare" else ()
    option = "--" + field.replace("_", "-")
    for value in values:
        code, message = refused(name, *required, option, value)
        assert code == 2
        # A word that is no number or choice is refused by tyro, in its own words.
        words = rf"{option}: expected |Error parsing {option}: |invalid choice .* argument '{option}'"
        assert re.match(f"error: ({words})", message) or option == "--coordinator"


@pytest.mark.parametrize(
    ("name", "typed", "message"),
    [
        ("lenet5", ("--l2", "-5"), "--l2: expected a finite number that is not negative, got -5.0"),
        ("lenet5", ("--cutout", "99"), "--cutout: expected 8 pixels at most, for pictures of 8x8, got 99"),
        ("lenet5", ("--shift", "8"), "--shift: expected less than 8 pixels, for pictures of 8x8, got 8"),
        ("lenet5", ("--epochs", str(2**31 - 1)), "--epochs: expected at most 47721858 epochs of 45 steps"),
        ("lenet5", ("--weight-decay", "1"), "--weight-decay: expected 0 for --optimizer adam, got 1.0; --optimizer ad"),
        ("lenet5", ("--data-dir", "."), "--data-dir: expected None for 'digits'"),
        ("lenet5", ("--run", "."), "--run: expected a path that ends with the new folder's name, got '.'"),
        ("lenet5", ("--devices", "999"), "--devices: expected 1 to "),
        ("lenet5", ("--process-id", "0"), "--coordinator, --processes and --process-id: expected all three or none"),
        (
            "lenet5",
            ("--learning_rate", "ten"),
            "Error parsing --learning-rate: could not convert string to float: 'ten'",
        ),
        (
            "lenet5",
            ("--model", "x"),
            "invalid choice 'x' for argument '--model'. Expected one of ('lenet', 'lenet5-1998')",
        ),
        (
            "mlp",
            ("--hidden", "64", "x"),
            "Error parsing --hidden: Could not find valid parse for arguments: ['64', 'x']",
        ),
        ("char_lm", ("--epochs", "inf"), "--epochs: expected a finite positive number, got inf"),
        ("char_lm", ("--epochs", "1e300"), "--epochs: expected at most "),
        (
            "char_lm",
            ("--temperature", "0"),
            "--temperature: expected a finite positive number, got 0.0; --top-k 1 always",
        ),
        (
            "char_lm",
            ("--generate", "a"),
            "--run: expected a folder with model.safetensors, got runs/char_lm; train a model",
        ),
        ("sweep", ("--learning-rates", "1e-3", "nan"), "--learning-rates: expected a finite positive number, got nan"),
        ("detect", ("--side", "30"), "--side: expected a multiple of 4, 32 to 2048, got 30"),
        ("detect", ("--data-dir", "nowhere"), "--data-dir: nowhere: expected a folder with one JSON file"),
        ("speech", ("--held-out", "m1"), "--held-out: expected nothing without --data-dir, got m1; the voices that"),
        ("speech", ("--digits", "2", "--data-dir", "."), "--digits: expected nothing with --data-dir"),
        ("detect", ("--steps", "9", "--data-dir", "."), "--steps: expected nothing with --data-dir"),
        ("lenet5", ("--resize", "8"), "--resize: expected nothing without --data folder, got 8"),
        ("lenet5", ("--detect", "--coordinator", "a:1"), "--detect: expected nothing with --coordinator"),
        ("text", ("--test-fraction", "0.1"), "--test-fraction: expected nothing without --data-dir, got 0.1"),
        ("bench.__main__", ("--data-dir", ".", "--only", "lenet"), "--data-dir: expected nothing without `epoch` in"),
        ("bench.scale", ("--rounds", "2"), "--rounds: expected nothing without --throughput, got 2"),
        ("memory", ("--delays", "1"), "--delays: expected a whole number of at least 2"),
        (
            "bench.__main__",
            ("--data-dir", "nowhere"),
            "--data-dir: expected a folder with CIFAR-10 pictures, got nowhere",
        ),
        ("text", ("--data-dir", "nowhere"), "--data-dir: expected a folder of texts or a CSV file, got nowhere"),
        ("text", ("--test-fraction", "0", "--data-dir", "."), "--test-fraction: expected a number above 0"),
        ("bench.scale", ("--child", "x"), "--child: expected no option"),
        ("lenet5", ("--label-smoothing", "1.5"), "--label-smoothing: expected a number"),
        ("lenet5", ("--data", "idx"), "--data-dir: expected a folder for 'idx', got None"),
        ("lenet5", ("--data", "cifar10", "--data-dir", "nowhere"), "--data-dir: expected nowhere to hold"),
        ("mlp", ("--hidden", "8", "0"), "--hidden: expected a whole number of at least 1, got 0"),
        ("feature_maps", ("--pool", "500"), "--pool: expected at most the picture's shorter side, 427, got 500"),
        ("rows", ("--dropout", "1"), "--dropout: expected a number from 0 to below 1, got 1.0"),
        ("detect", ("--score", "1"), "--score: expected a number from 0 to below 1"),
        ("text", ("--crop", "0"), "--crop: expected a number above 0, at most 1, got 0.0"),
        ("memory", ("--clip", "0"), "--clip: expected a positive number"),
        ("memory", ("--cells", "rnn", "lru", "--no-chrono"), "--chrono: expected nothing without a cell that has gate"),
        ("sweep", ("--learning-rates", "0.1", "1e-1"), "--learning-rates: expected each once, got [0.1, 0.1]"),
        ("sweep", ("--validation", "0"), "--validation: expected a share"),
        ("sweep", ("--validation", "1e-9"), "--validation: expected a share"),
        ("forecast", ("--window", "1"), "--window: expected a whole number of at least 2"),
        ("forecast", ("--series", "nowhere.csv"), "--series: expected an existing CSV file, got nowhere.csv"),
        ("forecast", ("--level", "1"), "--level: expected a number between 0 and 1, got 1"),
        ("forecast", ("--period", "12"), "--period: expected nothing without --series"),
        ("char_lm", ("--epochs", "1", "--minutes", "1"), "--minutes: expected nothing beside --epochs"),
        ("char_lm", ("--restart", "1.5"), "--restart: expected a chance"),
        ("char_lm", ("--top-p", "1.5"), "--top-p: expected a probability"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_the_option_is_named_as_it_is_typed(name, typed, message, refused, monkeypatch):
    monkeypatch.setattr(train.RunFolder, "create", CREATE)
    assert refused(name, *typed)[1].startswith(f"error: {message}")


@pytest.mark.parametrize("name", ["lenet5", "bench.scale"])
def test_usage_names_a_command_that_runs(name, monkeypatch, capsys):
    script = importlib.import_module(f"experiments.{name}")
    monkeypatch.setattr("sys.argv", ["/somewhere/script.py", "--help"])
    with pytest.raises(SystemExit):
        cli.run(script.main, script.Options, script.__doc__)
    assert capsys.readouterr().out.startswith(f"usage: python -m experiments.{name} ")
