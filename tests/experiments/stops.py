"""How tests stop a running experiment, and resume it as a user does."""

import json
from pathlib import Path

import pytest

from jaxnn import cli, train


class KilledError(Exception):
    """What the end of the process is played by."""


def die_before_checkpoint(number, monkeypatch, function, *args):
    """Calls a function that trains, and ends it where it would begin to write the checkpoint of this number."""
    calls, save = [], train.checkpoint.Saver.save

    def die(self, state, position, **options):
        calls.append(1)
        if len(calls) == number:
            raise KilledError
        return save(self, state, position, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train.checkpoint.Saver, "save", die)
        with pytest.raises(KilledError):
            function(*args)


def resume(script, run, monkeypatch, *more):
    """What `python -m experiments.SCRIPT --resume RUN` does."""
    monkeypatch.setattr("sys.argv", [script.__name__, "--resume", str(run), *more])
    cli.run(script.main, script.Options, script.__doc__)


def saved(run):
    """The bits of every array of the newest checkpoint of each network of a run, as numbers, and its history."""
    found = {}
    for about in sorted(Path(run).glob("checkpoints/**/about/metadata"), key=lambda path: int(path.parts[-3])):
        told = json.loads(about.read_text())
        times = {"seconds": 0, "examples_per_second": 0}
        found[about.parts[-4]] = told["fingerprints"], [record | times for record in told["history"]]
    return found
