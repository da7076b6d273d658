"""`--resume` of a run whose checkpoints are gone: nothing of it is overwritten, and a person reads what to do."""

from pathlib import Path

import pytest

from experiments import mlp, rows
from jaxnn import train
from jaxnn.cli import Kept, folder_of


def a_run(files=(), checkpoints=()):
    run = train.RunFolder.create("runs/x", {"epochs": 1})
    for name in files:
        (run / name).write_text("{}\n")
    for name in checkpoints:
        (run / "checkpoints" / name).mkdir(parents=True)
    return run


@pytest.mark.parametrize(
    ("files", "checkpoints", "networks", "gone"),
    [
        (["metrics.jsonl"], [], [""], "metrics.jsonl but no checkpoints, so"),
        (["metrics.jsonl"], ["."], [""], "metrics.jsonl but no checkpoints, so"),
        (["metrics.jsonl"], ["damaged-3", "6.orbax-checkpoint-tmp"], [""], "metrics.jsonl but no checkpoints, so"),
        (
            ["result.json"],
            [],
            tuple(mlp.ACTIVATIONS),
            "result.json but no checkpoints of sigmoid and tanh and ReLU, so",
        ),
        (
            ["result.json"],
            ["sigmoid/3", "ReLU/3"],
            tuple(mlp.ACTIVATIONS),
            "and checkpoints of ReLU but no .* of tanh, so",
        ),
        ([], ["tanh"], tuple(mlp.ACTIVATIONS), "a run but no checkpoints of sigmoid, so"),
        (
            ["metrics.jsonl"],
            ["frozen/3"],
            rows.NETWORKS,
            "and checkpoints of frozen but no checkpoints of joint, so",
        ),
    ],
)
def test_what_is_gone_is_named(files, checkpoints, networks, gone):
    run = a_run(files, checkpoints)
    (run / "command.txt").write_text("python -m experiments.mlp --epochs 1\n")
    before = sorted(run.path.rglob("*"))
    with pytest.raises(
        ValueError, match=f"--resume: runs/x holds .*{gone} .* nothing was changed: start a new run"
    ) as told:
        folder_of(Kept(resume=Path("runs/x")), networks)
    assert str(told.value).endswith("a new folder: python -m experiments.mlp --epochs 1")
    assert sorted(run.path.rglob("*")) == before


@pytest.mark.parametrize(
    ("files", "checkpoints", "networks"),
    [
        ([], [], [""]),  # ended before it left anything
        (["metrics.jsonl", "result.json"], ["6"], [""]),
        ([], ["sigmoid/3", "tanh"], tuple(mlp.ACTIVATIONS)),  # ended before the second's first checkpoint
        (["metrics.jsonl"], ["joint/3"], rows.NETWORKS),
    ],
)
def test_what_can_continue_continues(files, checkpoints, networks):
    assert folder_of(Kept(resume=a_run(files, checkpoints).path), networks).path == Path("runs/x")


def test_a_folder_that_cannot_be_made_is_reported_with_its_option():
    Path("file").touch()
    with pytest.raises(OSError, match=r"^--run: the run folder .*runs cannot be made .file is a file.; choose one"):
        folder_of(Kept(run=Path("file/runs")))
