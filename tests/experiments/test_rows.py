"""The row reader experiment: what is frozen stays, what is trained moves, and bad options are named."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest

from experiments import rows
from tests.experiments.stops import die_before_checkpoint, resume, saved

pytest.importorskip("sklearn", reason="the digits come inside scikit-learn")


def test_a_short_run_leaves_numbers_and_pictures_of_both(tmp_path, capsys):
    rows.main(rows.Options(epochs=1, batch_size=256, hidden=8, dense=8, run=tmp_path / "run"))
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert {"test_accuracy", "test_accuracy_frozen"} <= set(result)
    for name in ("curves", "confusion", "predictions"):
        assert (tmp_path / "run" / f"{name}.png").stat().st_size > 0
    assert "with the LSTM frozen" in capsys.readouterr().out


def test_a_run_that_was_killed_at_the_second_network_goes_on_there(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = rows.Options(epochs=2, batch_size=512, hidden=8, dense=8, run=whole)
    rows.main(options)
    again = dataclasses.replace(options, run=killed)
    die_before_checkpoint(5, monkeypatch, rows.main, again)  # each network begins three: two epochs, and the end
    resume(rows, killed, monkeypatch)
    assert set(saved(whole)) == {"joint", "frozen"}
    assert saved(whole) == saved(killed)
    results = [json.loads((run / "result.json").read_text()) for run in (whole, killed)]
    assert results[0]["test_accuracy_frozen"] == results[1]["test_accuracy_frozen"]


def test_the_frozen_lstm_keeps_its_weights_and_the_dense_layers_learn():
    params = {"lstm": {"cells": {0: {"w_x": np.ones((2, 3), np.float32)}}}, "dense1": {"kernel": np.ones((3, 2))}}
    tx = rows.without_lstm(optax.sgd(0.1))
    updates, _ = tx.update(jax.tree.map(np.ones_like, params), tx.init(params), params)
    assert not np.any(updates["lstm"]["cells"][0]["w_x"])
    assert np.all(np.asarray(updates["dense1"]["kernel"]) < 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "--hidden: expected a whole number of at least 1, got 0"),
        ({"epochs": 0}, "--epochs: expected a whole number of at least 1, got 0"),
        ({"batch_size": -1}, "--batch-size: expected a whole number of at least 1, got -1"),
        ({"dropout": 1.0}, "--dropout: expected a number from 0 to below 1, got 1.0"),
    ],
)
def test_options_that_make_no_sense_are_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        rows.main(dataclasses.replace(rows.Options(run=tmp_path / "run"), **options))
    assert not (tmp_path / "run").exists()
