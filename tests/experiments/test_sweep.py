"""The sweep: all combinations, what is chosen and by what, and the best run as an ordinary model."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import sweep
from jaxnn import data, inspect, train

SMALL = sweep.Options(seeds=2, learning_rates=(1e-3, 1e38), epochs=2, batch_size=256)


def test_a_sweep_leaves_table_pictures_and_the_best_model_and_continues_to_the_same_end(capsys):
    sweep.main(SMALL)
    folder = Path("runs/sweep")
    assert {path.name for path in folder.iterdir()} - {"command.txt"} == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "result.json",
        "sweep.png",
        "learning_rates.png",
        "reliability.png",
        "best.safetensors",
    }
    result = json.loads((folder / "result.json").read_text())
    assert result["learning_rate"] == 1e-3
    assert [run["diverged"] for run in result["runs"]] == [False, False, True, True]
    assert [run["seed"] for run in result["runs"]] == [0, 1, 0, 1]
    assert result["ensemble"]["members"] == 2
    out = capsys.readouterr().out
    assert "member 3 (learning_rate 1e+38) diverged in epoch 1" in out
    assert "ensemble of the 2" in out
    # The saved model is the one that was judged.
    digits = data.load_digits()
    learned, _ = data.split(digits.train, SMALL.validation)
    mean, std = learned.images.mean((0, 1, 2)) / 255, learned.images.std((0, 1, 2)) / 255
    images = train.image_preprocess(mean=mean, std=std)(None, jax.tree.map(jnp.asarray, digits.test)).images
    scores = inspect.scores(jax.nn.softmax(sweep.load_best(folder / "best.safetensors")(images)), digits.test.labels)
    assert scores.accuracy == pytest.approx(result["best_run"]["accuracy"])
    assert scores.negative_log_likelihood == pytest.approx(result["best_run"]["negative_log_likelihood"], rel=1e-4)
    # As if it had been killed before the last epoch was saved.
    whole, kept = (folder / "metrics.jsonl").read_text().splitlines(), json.loads((folder / "result.json").read_text())
    newest = max((folder / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    shutil.rmtree(newest)
    sweep.main(dataclasses.replace(SMALL, resume=folder))
    assert "resumed after epoch 1" in capsys.readouterr().out
    again = json.loads((folder / "result.json").read_text())
    assert again["best_run"] == kept["best_run"]
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    for line, before in zip(lines, whole, strict=True):
        assert json.loads(line) | {"seconds": 0} == json.loads(before) | {"seconds": 0}
    with pytest.raises(train.checkpoint.CheckpointError, match="batch_size was 256 there and is 128 now"):
        sweep.main(dataclasses.replace(SMALL, resume=folder, batch_size=128))
    with pytest.raises(ValueError, match="--resume: expected the folder of a run, got nowhere"):
        sweep.main(dataclasses.replace(SMALL, resume=Path("nowhere")))


def test_settings_without_divergence_come_first():
    def setting(whole, *accuracy):
        return train.ensemble.Setting(0.1, np.arange(3), np.arange(whole), np.array(accuracy), 1 - np.array(accuracy))

    sure, lucky, lost = setting(3, 0.8, 0.8, 0.9), setting(2, 1.0, 1.0), setting(0)
    assert max([lost, lucky, sure], key=lambda each: each.rank) is sure
    assert max([lost, lucky], key=lambda each: each.rank) is lucky


def test_nothing_is_chosen_by_what_is_learned_from():
    digits = data.load_digits().train
    learned, validation = data.split(digits, 0.25)
    assert len(validation.labels) == round(0.25 * len(digits.labels))
    both = np.concatenate([learned.images, validation.images]).reshape(len(digits.labels), -1)
    np.testing.assert_array_equal(np.sort(both.sum(1)), np.sort(digits.images.reshape(len(both), -1).sum(1)))
