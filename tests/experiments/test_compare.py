from pathlib import Path

import pytest

from experiments import command, compare
from jaxnn import train


def run(path, losses, **config):
    folder = train.RunFolder.create(path, {"run": path, "batch_size": 32, **config})
    for epoch, loss in enumerate(losses, 1):
        folder.log({"epoch": epoch, "train_loss": loss, "test_loss": loss, "test_accuracy": 1 - loss, "seconds": 1.5})
    return folder.path


def test_a_table_and_a_picture(monkeypatch, capsys):
    run("runs/a", [0.5, 0.25, 0.75], learning_rate=1e-3)
    run("runs/b", [float("nan")], learning_rate=1e-2, flip=True)
    monkeypatch.setattr("sys.argv", ["compare", "runs/a", "runs/b", "--out", "two.png"])
    command.run(compare.main, compare.Options, compare.__doc__)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert " ".join(lines[0]).endswith("last test_accuracy best test_accuracy learning_rate flip")
    assert lines[1] == ["runs/a", "3", "4.5", "0.75", "0.25", "25.00%", "75.00%", "0.001", "-"]
    assert lines[2] == ["runs/b", "1", "1.5", "-", "-", "-", "-", "0.01", "True"]
    assert Path("two.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_exists_is_kept():
    Path("compare.png").write_text("mine")
    for _ in range(2):
        compare.main(compare.Options((run("runs/a", [1.0]),)))
    assert Path("compare.png").read_text() == "mine"
    assert Path("compare-2.png").exists()
    assert Path("compare-3.png").exists()


def test_what_cannot_be_compared_is_told_before_anything_is_written():
    other = train.RunFolder.create("runs/other")
    other.log({"epoch": 1, "test_rmse": 1.0})
    steps = train.RunFolder.create("runs/steps")
    steps.log({"step": 1, "test_loss": 1.0})
    Path("notes").mkdir()
    good = run("runs/a", [1.0])
    for runs, out, message in [
        ((), "a.png", "name at least one run folder"),
        ((Path("nowhere"),), "a.png", "there is no run folder nowhere"),
        ((good, Path("notes")), "a.png", "notes is no run folder with metrics"),
        ((good, steps.path), "a.png", "records without an epoch"),
        ((good, other.path), "a.png", r"no metric in common \(runs/a: test_accuracy.*runs/other: test_rmse\)"),
        ((good,), "a.pdf", r"must end with \.png, not a\.pdf"),
        ((good,), "no/a.png", "there is no folder no"),
    ]:
        with pytest.raises(ValueError, match=message):
            compare.main(compare.Options(runs, Path(out)))
    assert not list(Path().glob("*.p*"))
