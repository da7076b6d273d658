from pathlib import Path

import pytest

from experiments import compare
from jaxnn import cli, train


def run(path, losses, **config):
    folder = train.RunFolder.create(path, {"run": path, "batch_size": 32, **config})
    for epoch, loss in enumerate(losses, 1):
        folder.log({"epoch": epoch, "train_loss": loss, "test_loss": loss, "test_accuracy": 1 - loss, "seconds": 1.5})
    return folder.path


def test_a_table_and_a_picture(monkeypatch, capsys):
    run("runs/a", [0.5, 0.25, 0.75], learning_rate=1e-3, flip=False, seed=1)
    run("runs/b", [float("nan")], learning_rate=1e-2, flip=True)
    monkeypatch.setattr("sys.argv", ["compare", "runs/a", "runs/b", "--out", "two.png"])
    cli.run(compare.main, compare.Options, compare.__doc__)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert " ".join(lines[0]).endswith("last test accuracy best test accuracy --learning-rate --flip")
    assert lines[1] == ["runs/a", "3", "4.5", "0.75", "0.25", "25.00%", "75.00%", "0.001", "False"]
    assert lines[2] == ["runs/b", "1", "1.5", "-", "-", "-", "-", "0.01", "True"]
    assert Path("two.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_exists_is_kept():
    Path("compare.png").write_text("mine")
    for _ in range(2):
        compare.main(compare.Options((run("runs/a", [1.0]),)))
    assert Path("compare.png").read_text() == "mine"
    assert Path("compare-2.png").exists()
    assert Path("compare-3.png").exists()


def test_what_cannot_be_compared_is_left_out_and_said(capsys):
    good, more = run("runs/a", [1.0]), run("runs/b", [0.5])
    for name, record in {
        "char_lm": {"step": 1, "epochs": 0.5, "train_bits": 2.0},
        "sweep": {"epoch": 1, "train_loss": [1.0, 2.0], "test_loss": [1.0, 2.0]},
        "other": {"epoch": 1, "test_rmse": 1.0},
        "bare": {"epoch": 1, "seconds": 1.0},
    }.items():
        train.RunFolder.create(f"runs/{name}").log(record)
    train.RunFolder.create("runs/mlp", {"epochs": 1})
    (train.RunFolder.create("runs/empty") / "metrics.jsonl").touch()
    damaged = train.RunFolder(run("runs/damaged", [1.0]))
    (damaged / "config.json").write_text("{")
    (train.RunFolder(run("runs/torn", [1.0])) / "metrics.jsonl").write_text("torn\n")
    Path("runs/compare.png").touch()
    folders = [path for path in Path("runs").iterdir() if path not in (good, more)]
    compare.main(compare.Options((*sorted(folders), good, more, Path("nowhere"))))
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()[1:3]] == ["runs/a", "runs/b"]
    told = [line.split(": ", 2) for line in said.err.splitlines()]
    reasons = {name: why for _, name, why in told}
    assert reasons.pop("runs/torn")
    assert reasons.pop("runs/damaged").startswith("its config.json is damaged: Expecting")
    assert reasons == {
        "runs/char_lm": "its metrics are not over epochs",
        "runs/sweep": "its metrics are of many networks at once",
        "runs/other": "it has no training loss, which the others have",
        "runs/bare": "it has no metric of training or test",
        "runs/mlp": "it has no metrics.jsonl",
        "runs/empty": "its metrics are not over epochs",
        "runs/compare.png": "there is no such folder",
        "nowhere": "there is no such folder",
    }


def test_where_nothing_can_be_compared_nothing_is_written():
    Path("notes").mkdir()
    good = run("runs/a", [1.0])
    for runs, out, message in [
        ((), "a.png", "RUNS: expected at least one run folder, got none"),
        (
            (Path("nowhere"), Path("notes")),
            "a.png",
            "nothing can be compared: nowhere: there is no such folder; notes: ",
        ),
        ((good,), "a.pdf", r"--out: expected a name that ends with \.png, got a\.pdf"),
        ((good,), "no/a.png", "--out: expected a picture in a folder that exists, got no/a.png"),
    ]:
        with pytest.raises(ValueError, match=message):
            compare.main(compare.Options(runs, Path(out)))
    assert not list(Path().glob("*.p*"))
