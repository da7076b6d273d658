"""The memory tasks, the gradient's reach, and the experiment as a whole."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import memory
from tests.experiments.stops import resume


def test_adding_marks_two_numbers_one_early_and_one_late():
    batch = memory.adding(jax.random.key(0), 64, 40)
    assert batch.inputs.shape == (64, 40, 2)
    values, marks = batch.inputs[..., 0], batch.inputs[..., 1]
    assert (marks[:, :4].sum(1) == 1).all()
    assert (marks[:, 20:].sum(1) == 1).all()
    assert float(marks.sum()) == 128
    np.testing.assert_allclose(batch.targets[:, 0], np.sum(values * marks, axis=1), rtol=1e-6)


def test_copying_shows_symbols_then_silence_then_the_signal():
    batch = memory.copying(jax.random.key(0), 5, 7)
    shown = jnp.argmax(batch.inputs, -1)
    n = memory.SYMBOLS
    assert shown.shape == (5, n + 7 + n)
    np.testing.assert_array_equal(shown[:, :n], batch.targets)
    assert (shown[:, n : n + 7] == memory.ALPHABET).all()
    assert (shown[:, n + 7 :] == memory.ALPHABET + 1).all()


def test_the_guesses_are_what_needs_no_memory():
    targets = memory.adding(jax.random.key(0), 20_000, 10).targets
    assert float((jnp.abs(targets - 1) < memory.NEAR).mean()) == pytest.approx(memory.GUESS["adding"], rel=0.05)


def biases(cell, **options):
    return memory.Network(cell, "adding", 50, memory.Options(**options)).recurrent.cells[0].params.b[...]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gates_start_out_keeping_for_up_to_the_delay(cell):
    bias = biases(cell, hidden=400).reshape(-1, 400)
    keep = 1 / jax.nn.sigmoid(-bias[1])  # f of i, f, g, o and z of r, z, n: how many steps until it has faded
    assert 1.9 < keep.min() < 4
    assert 45 < keep.max() < 50
    if cell == "lstm":
        np.testing.assert_array_equal(bias[0], -bias[1])
        bias = bias[1:]
    else:
        assert (bias[0] == 0).all()
    assert (bias[-1] == 0).all()
    still = biases(cell, hidden=3, chrono=False)
    assert set(still.tolist()) <= {0.0, 1.0}


def test_every_network_learns_over_a_short_delay_and_resumes(tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    memory.main(memory.Options(delays=(2,), steps=150, hidden=16, learning_rate=2e-2, run=run))
    result = json.loads((run / "result.json").read_text())
    for task, cells in result["scores"].items():
        for (score,) in cells.values():
            assert score["right"] > 1.5 * memory.GUESS[task]
            assert score["seconds_per_step"] > 0
    before, after = result["gradients"].values()
    assert list(before) == list(after) == ["RNN", "GRU", "LSTM"]
    assert all(before[cell] != after[cell] for cell in before)
    assert (run / "memory.png").stat().st_size > 0
    assert "without memory" in capsys.readouterr().out
    resume(memory, run, monkeypatch)  # there is nothing left to train
    assert json.loads((run / "result.json").read_text()) == result


def test_the_picture_has_labels_with_one_delay_too(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(memory, "save", lambda figure, path: drawn.append(figure))
    # Times between two powers of ten, which are all that a logarithmic axis labels by itself.
    times = {"RNN": 6e-4, "GRU": 65e-5, "LSTM": 7e-4}
    scores = {
        task: {cell: [{"right": 0.5, "seconds_per_step": time}] for cell, time in times.items()}
        for task in memory.TASKS
    }
    gradients = {when: {"RNN": [0.1, 0.2]} for when in ("before training", "after training")}
    memory.draw([10], scores, gradients, tmp_path / "memory.png")
    for axes in (drawn[0].axes[2], drawn[0].axes[5]):
        low, high = axes.get_ylim()
        assert [f"{tick:g}" for tick in axes.get_yticks() if low <= tick <= high] == ["0.5", "1"]


@pytest.mark.parametrize("cell", memory.CELLS)
def test_a_network_of_every_cell_takes_what_its_task_gives(cell):
    for task, answers, outputs in (("adding", 1, 1), ("copying", memory.SYMBOLS, memory.ALPHABET)):
        network = memory.Network(cell, task, 3, memory.Options(hidden=4))
        said = jax.eval_shape(network, memory.TASKS[task](jax.random.key(0), 2, 3).inputs)
        assert said.shape == (2, answers, outputs)
