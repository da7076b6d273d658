"""The row reader experiment: what is frozen stays, what is trained moves, and bad options are named."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from experiments import rows
from jaxnn import models, train
from jaxnn.data import Examples
from tests.experiments.stops import die_before_checkpoint, resume, saved

pytest.importorskip("sklearn", reason="the digits come inside scikit-learn")


def test_a_run_leaves_numbers_and_pictures_of_both_and_continues_where_it_was_killed(tmp_path, monkeypatch, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = rows.Options(epochs=2, batch_size=512, hidden=8, dense=8, run=whole)
    rows.main(options)
    assert "with the LSTM frozen" in capsys.readouterr().out
    for name in ("curves", "confusion", "predictions"):
        assert (whole / f"{name}.png").stat().st_size > 0
    again = dataclasses.replace(options, run=killed)
    die_before_checkpoint(5, monkeypatch, rows.main, again)  # each network begins three: two epochs, and the end
    resume(rows, killed, monkeypatch)
    assert set(saved(whole)) == {"joint", "frozen"}
    assert saved(whole) == saved(killed)
    results = [json.loads((run / "result.json").read_text(encoding="utf-8")) for run in (whole, killed)]
    for name in ("test_accuracy", "test_accuracy_frozen"):
        assert results[0][name] == results[1][name]


def test_the_frozen_lstm_keeps_its_weights_and_the_dense_layers_learn():
    network = models.RowReader((8, 8, 1), hidden=3, dense=4, rngs=nnx.Rngs(0))
    state = train.create_state(network, optax.sgd(0.1), jax.random.key(0), wrt=rows.NOT_LSTM)
    before, frozen = jax.tree.map(np.asarray, (state.params, state.frozen))
    batch = Examples(np.ones((2, 8, 8, 1), np.float32), np.array([0, 1], np.int32))
    state, _ = train.make_step(train.losses.classification())(state, batch)
    jax.tree.map(np.testing.assert_array_equal, state.frozen, frozen)
    assert jax.tree.leaves(state.params["lstm"]) == []
    assert np.any(state.params["dense1"]["kernel"] != before["dense1"]["kernel"])
