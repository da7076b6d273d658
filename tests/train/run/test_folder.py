import dataclasses
import json
import math
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxnn import train
from tests.train.toys import quadratic


@dataclasses.dataclass
class Options:
    data_dir: Path
    learning_rate: float = 1e-3


def test_a_folder_that_exists_is_never_used_again():
    first = train.RunFolder.create("runs/a", {"n": 1})
    second = train.RunFolder.create("runs/a", {"n": 2})
    third = train.RunFolder.create(Path("runs") / "a")
    assert [run.path.name for run in (first, second, third)] == ["a", "a-2", "a-3"]
    assert json.loads((first / "config.json").read_text()) == {"n": 1}
    assert not (third / "config.json").exists()


def test_a_folder_that_cannot_be_made_is_named():
    Path("file").write_text("mine")
    with pytest.raises(OSError, match=r"the run folder .*runs cannot be made .*file is a file.*choose one"):
        train.RunFolder.create(Path("file") / "runs")
    assert Path("file").read_text() == "mine"


def test_a_file_of_that_name_is_not_overwritten():
    Path("run").write_text("mine")
    assert train.RunFolder.create("run").path.name == "run-2"
    assert Path("run").read_text() == "mine"


def test_runs_that_start_together_get_a_folder_each():
    made = []
    threads = [threading.Thread(target=lambda: made.append(train.RunFolder.create("runs/x").path)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8


def test_a_name_with_a_dot_keeps_it():
    train.RunFolder.create("runs/lr0.1")
    assert train.RunFolder.create("runs/lr0.1").path.name == "lr0.1-2"


def test_dataclasses_and_paths_are_written():
    run = train.RunFolder.create("runs/a", Options(Path("some") / "where"))
    assert json.loads((run / "config.json").read_text()) == {
        "data_dir": str(Path("some") / "where"),
        "learning_rate": 1e-3,
    }


def test_every_line_of_metrics_is_strict_json():
    run = train.RunFolder.create("runs/a")
    assert run.metrics() == []
    run.log({"epoch": 1, "loss": 0.1})
    run.log({"epoch": 2, "loss": math.nan, "other": math.inf})
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        {"epoch": 1, "loss": 0.1},
        {"epoch": 2, "loss": None, "other": None},
    ]
    assert train.RunFolder(run.path).metrics() == run.metrics()


def test_the_half_line_of_a_killed_writer_spoils_no_other():
    run = train.RunFolder.create("runs/a")
    for left in (b'{"epo', b'{"epoch": 1}\n{"epoch": 2', b'{"epoch": 1}\n'):
        (run / "metrics.jsonl").write_bytes(left)
        run.log({"epoch": 3})
        assert run.metrics() == [{"epoch": 1}] * left.count(b"\n") + [{"epoch": 3}]


def test_all_files_are_in_one_folder_where_the_working_directory_changes(monkeypatch):
    run = train.RunFolder.create("runs/a")
    run.log({"epoch": 1})
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    run.log({"epoch": 2})
    assert len(run.metrics()) == 2


def test_metrics_that_vanish_while_training_are_written_again():
    run = train.RunFolder.create("runs/a")

    def remove(record, state):
        if record["epoch"] == 2:
            (run / "metrics.jsonl").unlink()

    state = train.create_state(jnp.ones(2), optax.sgd(0.1), jax.random.key(0))
    state, history = train.fit(
        state,
        (jnp.eye(2), jnp.ones(2)),
        quadratic,
        epochs=3,
        run=run,
        sinks=[remove],
        progress=False,
    )
    assert run.metrics() == history


def test_opening_what_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="path: expected a run folder"):
        train.RunFolder("runs/nothing")


def test_a_path_that_is_not_utf8_comes_back_from_the_configuration(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--data", "caf\udce9"])
    run = train.RunFolder.create("runs/bytes", {"data": Path("caf\udce9"), "name": "é"})
    run.save_environment()
    assert json.loads((run / "config.json").read_text(encoding="utf-8")) == {"data": "caf\udce9", "name": "é"}
    assert b"caf\xe9" in (run / "command.txt").read_bytes()


@pytest.mark.parametrize("path", ["", ".", "..", "/", "runs/.."])
def test_a_path_without_a_name_makes_no_folder(path):
    with pytest.raises(ValueError, match="path: expected a path that ends with the new folder's name, got "):
        train.RunFolder.create(path)
    assert not list(Path().iterdir())
