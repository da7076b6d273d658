"""What lenet5 and cifar10 share: a run folder that is whole, and bad options told before there is one."""

import dataclasses
import json
import struct
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import cifar10, feature_maps, lenet5, mlp
from jaxnn import cli
from jaxnn.cli.options import FREE
from tests.experiments.stops import die_before_checkpoint, resume, saved


def test_a_run_leaves_everything(capsys):
    lenet5.main(lenet5.Options(epochs=1, batch_size=256, tensorboard=True, profile=True))
    folder = Path("runs/lenet5")
    # A worker of pytest-xdist has no command line that could be repeated.
    assert {path.name for path in folder.iterdir()} - {"command.txt"} == {
        "checkpoints",
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "profile",
        "tensorboard",
        "result.json",
        "curves.png",
        "confusion.png",
        "filters.png",
        "predictions.png",
        "model.jaxprogram",
    }
    assert len(list(folder.glob("profile/**/perfetto_trace.json.gz"))) == 1
    assert len(list(folder.glob("tensorboard/events.out.tfevents.*"))) == 1
    result = json.loads((folder / "result.json").read_text())
    assert 0 <= result["test_accuracy"] <= 1
    assert result["epochs"] == 1
    assert f"test accuracy {result['test_accuracy']:.2%}" in capsys.readouterr().out
    assert json.loads((folder / "config.json").read_text())["batch_size"] == 256


def test_the_cifar10_network_reads_small_pictures_too_and_in_float16():
    options = cifar10.Options(data="digits", epochs=1, batch_size=512, flip=True, shift=1, cutout=2)
    cifar10.main(dataclasses.replace(options, precision="float16"))
    assert Path("runs/cifar10/result.json").exists()
    (record,) = map(json.loads, Path("runs/cifar10/metrics.jsonl").read_text().splitlines())
    assert record["train_loss_scale"] == 2**15


def test_an_experiment_reads_a_file_in_yaml():
    Path("options.yaml").write_text("hidden: [8]\nepochs: 1\nbatch-size: 256\nlearning_rate: 1e-2\nrun: runs/by-file\n")
    read = []
    cli.run(read.append, mlp.Options, arguments=["--config", "options.yaml", "--seed", "3"])
    run = Path("runs/by-file")
    assert read == [mlp.Options(hidden=(8,), epochs=1, batch_size=256, learning_rate=0.01, seed=3, run=run)]


def test_each_activation_is_trained_and_a_run_killed_at_the_second_network_continues_there(monkeypatch):
    options = mlp.Options(hidden=(8,), epochs=2, batch_size=256, checkpoint_every=1, run=Path("runs/whole"))
    mlp.main(options)
    killed = dataclasses.replace(options, run=Path("runs/killed"))
    die_before_checkpoint(5, monkeypatch, mlp.main, killed)  # each network begins three: two epochs, and the end
    resume(mlp, killed.run, monkeypatch)
    result, again = (json.loads(Path(f"runs/{name}/result.json").read_text()) for name in ("whole", "killed"))
    assert result == again
    assert list(result) == ["sigmoid", "tanh", "ReLU"]
    assert all(len(each["gradient_by_layer"]) == 2 for each in result.values())
    assert Path("runs/whole/curves.png").exists()
    assert saved("runs/whole") == saved("runs/killed")
    assert set(saved("runs/whole")) == set(mlp.ACTIVATIONS)


def test_feature_maps_are_those_of_the_kernels():
    picture = np.random.default_rng(0).random((9, 8, 3)).astype(np.float32)
    maps = feature_maps.look(jax.numpy.asarray(picture), pool=2)
    grey = picture.mean(-1)
    np.testing.assert_allclose(maps["K1 (2×2) on grey"][..., 0], grey[1:, 1:] - grey[:-1, :-1], atol=1e-5)
    np.testing.assert_allclose(maps["K1 on colour"], 3 * maps["K1 (2×2) on grey"], atol=1e-5)
    np.testing.assert_allclose(maps["K2, same size"][1:-1, 1:-1], maps["K2 (3×3) on grey"], atol=1e-5)
    assert maps["|K2|, max pool 2"].shape == (4, 4, 1)


def test_a_picture_that_is_none_is_named():
    Path("notes.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"--picture: notes.png: expected a picture, got what cannot be read"):
        feature_maps.main(feature_maps.Options(picture=Path("notes.png")))


def png(width, height, pixels=b""):
    """A PNG that says it has this size."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(2**20, 2**20), "exceeds limit of"),
        (png(12_000, 12_000), "expected at most 33,554,432 pixels, got 12000x12000"),
        (png(9, 9, bytes(9)), "cannot be read"),
        (png(9, 9)[:40], "cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read"),
        (png(2, 9, bytes(27)), "--picture: expected at least 3 pixels on each side"),
        (None, "--picture: a.png: expected a picture, got no such file"),
    ],
    ids=["bomb", "large", "few pixels", "cut", "a beginning", "narrow", "none"],
)
def test_a_picture_that_cannot_be_looked_at_is_named_before_it_is_decoded(content, message):
    if content is not None:
        Path("a.png").write_bytes(content)
    with pytest.raises(ValueError, match=f"^--picture: .*({message.removeprefix('--picture: ')})"):
        feature_maps.main(feature_maps.Options(picture=Path("a.png")))
    assert not Path("runs").exists()


def test_what_is_only_told_or_written_may_change_when_a_run_continues():
    assert {"profile", "tensorboard", "dry_run", "checkpoint_every"} <= set(FREE)
