"""`--dry-run`: what it tells is right, and it leaves everything as it was."""

import json
from pathlib import Path

import jax
import optax
import pytest
from flax import nnx

from experiments import detect, forecast, lenet5, memory, mlp, rows, seq2seq, sweep
from jaxnn import cli, data, models, train


@pytest.fixture
def start(monkeypatch, capsys):
    """Starts an experiment as a person would, and gives the lines that it prints, however they are aligned."""

    def run(script, *arguments):
        monkeypatch.setattr("sys.argv", [script.__name__, *arguments])
        cli.run(script.main, script.Options, script.__doc__)
        return lines(capsys)

    return run


def lines(capsys):
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def everything():
    return {path: path.stat().st_mtime_ns for path in Path().rglob("*")}


def test_numbers_are_those_of_a_count_by_hand(start):
    told = start(mlp, "--dry-run")
    products, first = 64 * 64 + 64 * 64 + 64 * 10, 64 * 64
    step = 32 * 2 * (3 * products - first)  # the pictures have no gradient
    assert f"a step {step / 1e6:.2f} MFLOP 32 examples" in told
    assert f"an epoch {45 * step / 1e6:.1f} MFLOP 45 steps" in told
    assert f"the run {30 * 45 * step / 1e9:.2f} GFLOP 30 epochs; tests are not counted" in told
    numbers = products + 64 + 64 + 10
    assert "layers.0 kernel (64, 64), bias (64,) float32 4,160 16.2 KiB" in told
    assert f"total {numbers:,} {numbers * 4 / 1024:.1f} KiB" in told
    # Plain SGD holds nothing beside the weights but a key of two words and a step.
    assert f"state {(numbers + 3) * 4 / 1024:.1f} KiB parameters, optimiser, random key" in told
    assert f"training set {1438 * (64 + 4) / 1024:.1f} KiB" in told
    for begin in ("arguments ", "outputs ", "temporaries ", "at the peak ", "compiled in "):
        assert any(line.startswith(begin) for line in told)
    assert not everything()


def test_options_of_a_file_and_of_the_run_that_would_go_on(start):
    run = Path("runs/lenet5")
    (run / "checkpoints" / "9").mkdir(parents=True)
    (run / "checkpoints" / "12.orbax-checkpoint-tmp").mkdir()
    (run / "config.json").write_text(json.dumps({"batch_size": 256, "dry_run": False}))
    Path("options.toml").write_text("epochs = 7\n")
    before = everything()
    told = start(lenet5, "--config", "options.toml", "--resume", "runs/lenet5", "--dry-run")
    assert any(line.startswith("an epoch") and line.endswith("FLOP 6 steps") for line in told)
    assert any(line.startswith("the run") and "7 epochs" in line for line in told)
    assert "runs/lenet5 would resume after 1 of 7 epochs and 3 steps" in told
    assert everything() == before


def test_a_run_that_is_not_there_is_reported(start, capsys):
    with pytest.raises(SystemExit, match="2"):
        start(lenet5, "--resume", "runs/nowhere", "--dry-run")
    assert "error: runs/nowhere/config.json cannot be read" in capsys.readouterr().err


def test_both_networks_of_the_row_reader(start):
    told = start(rows, "--dry-run", "--hidden", "8", "--dense", "8", "--chunk", "2", "--batch-size", "256")
    assert "lstm.cells.0.params w_h (8, 32), w_x (8, 32), b (32,) float32 544 2.1 KiB" in told
    assert "the network with its LSTM frozen takes as many steps again; trained jointly:" in told
    assert "memory to train a program of 2 steps" in told
    assert not everything()


def test_scenes_that_are_made_on_the_device(start):
    sizes = {"side": 32, "digits": 2, "tests": 3, "steps": 5, "epochs": 7, "batch-size": 4, "width": 2, "blocks": 1}
    told = start(detect, "--dry-run", *(word for name, value in sizes.items() for word in (f"--{name}", str(value))))
    assert any(line.startswith("a step") and line.endswith("FLOP 4 examples") for line in told)
    assert any(line.startswith("an epoch") and line.endswith("FLOP 5 steps") for line in told)
    assert any(line.startswith("the run") and "FLOP 7 epochs" in line for line in told)
    assert "training set 0 B" in told
    assert not everything()


def test_one_of_many_networks(start):
    sizes = {"cell": "rnn", "window": 8, "hidden": 2, "cuts": 1, "seeds": 3, "examples": 64, "epochs": 7}
    told = start(forecast, "--dry-run", *(word for name, value in sizes.items() for word in (f"--{name}", str(value))))
    assert any(line.startswith("one of ") and line.endswith("networks, which are trained together:") for line in told)
    assert any(line.startswith("an epoch") and line.endswith("FLOP 2 steps") for line in told)
    assert any(line.startswith("the run") and "FLOP 7 epochs" in line for line in told)
    assert not everything()


@pytest.mark.parametrize(
    ("script", "sizes", "steps", "first"),
    [
        (seq2seq, "--examples 8 --tests 2 --batch-size 4 --hidden 2 --embed 2", 2, "encoder and decoder with "),
        (
            memory,
            "--cells rnn --delays 2 3 --steps 5 --batch-size 2 --hidden 2",
            5,
            "one of 4 networks, over the longest",
        ),
        (sweep, "--seeds 2 --learning-rates 1e-3 1e-2 --batch-size 256", 5, "LeNet with "),
    ],
)
def test_every_other_training_is_foretold(script, sizes, steps, first, start):
    told = start(script, "--dry-run", *sizes.split())
    assert told[0].startswith(first)
    assert any(line.startswith("an epoch") and line.endswith(f"FLOP {steps} steps") for line in told)
    assert not everything()


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_memory_is_that_of_each_device(capsys):
    def create():
        net = models.MLP((64, 256, 10), activation=jax.nn.relu, rngs=nnx.Rngs(0))
        return train.create_state(net, optax.adam(1e-3), jax.random.key(0))

    digits, how = data.load_digits(), {"epochs": 1, "batch_size": 256, "preprocess": mlp.rows}
    how |= {"parallel": train.parallel(8, shard=8), "test_data": digits.test}
    print(train.loop.dry_run(jax.eval_shape(create), digits.train, train.losses.classification(), **how))
    told = lines(capsys)
    # Weights and Adam's two moments: the large kernel is split over the devices, all else is on each of them.
    state = 3 * 4 * (64 * 256 // 8 + 256 + 256 * 10 + 10)
    assert f"state {state / 1024:.1f} KiB parameters, optimiser, random key" in told
    assert f"a step {256 * 2 * (2 * 64 * 256 + 3 * 256 * 10) / 1e6:.1f} MFLOP 256 examples" in told
    assert "memory to train an epoch, of each of 8 devices" in told
