import gzip
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import plots, testing, train
from jaxnn.train.devices import distributed
from tests.train.toys import MLP, ConvNet, Counted, blobs, equal, pictures


def start(model=None, seed=0, rate=1e-2):
    return train.create_state(model or MLP(seed), optax.adam(rate), jax.random.key(seed))


def quiet(state, data, loss_fn=None, **options):
    return train.fit(state, data, loss_fn or train.losses.classification(), progress=False, **options)


def test_it_learns_and_tells_how_well():
    state, history = quiet(start(), blobs(200), test_data=blobs(50, seed=1), epochs=5, batch_size=16)
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5]
    assert history[-1]["step"] == int(state.step) == 5 * 13
    assert history[-1]["test_accuracy"] > 0.95
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert set(history[0]) == {
        "epoch", "step", "train_loss", "train_accuracy", "train_grad_norm",
        "test_loss", "test_accuracy", "seconds", "examples_per_second",
    }  # fmt: skip


def test_one_trace_a_function_over_a_whole_fit():
    loss_fn = Counted()
    quiet(
        start(ConvNet()),
        pictures(21),
        loss_fn,
        test_data=pictures(11, seed=1),
        epochs=4,
        batch_size=8,
        test_batch_size=4,
        preprocess=train.image_preprocess(),
    )
    assert (loss_fn.training, loss_fn.evaluation) == (1, 1)


def test_it_copies_its_data_where_implicit_copies_are_forbidden():
    state = start()
    with jax.transfer_guard("disallow"):
        quiet(state, blobs(20), test_data=blobs(9), epochs=1, batch_size=8)


def test_one_compile_of_the_epoch_over_a_whole_fit():
    with testing.record_compilations() as names:
        quiet(start(), blobs(20), test_data=blobs(9), epochs=3, batch_size=8)
    assert sum("epoch" in name for name in names) == 1, names
    assert sum("evaluate" in name for name in names) == 1, names


def test_means_over_an_epoch_count_every_example_once():
    """With a learning rate of zero the training loss is the loss of the set, short last batch or not."""
    data = blobs(21)
    state = train.create_state(MLP(), optax.sgd(0.0), jax.random.key(0))
    expected = train.evaluate(state, data, train.losses.classification())
    _, history = quiet(state, data, epochs=1, batch_size=8)
    assert history[0]["train_loss"] == pytest.approx(float(expected["loss"]), rel=1e-5)
    assert history[0]["train_accuracy"] == pytest.approx(float(expected["accuracy"]), rel=1e-5)


def test_everything_follows_from_one_seed():
    def run(seed):
        return quiet(
            start(ConvNet(seed), seed),
            pictures(21),
            epochs=2,
            batch_size=8,
            preprocess=train.image_preprocess(augmentation=train.augment.random_flip),
        )

    (a, history), (b, again), (c, _) = run(0), run(0), run(1)
    assert equal(a, b)
    assert [r["train_loss"] for r in history] == [r["train_loss"] for r in again]
    assert not equal(a.params, c.params)


def test_two_fits_equal_one_long_fit_bit_for_bit():
    whole, _ = quiet(start(), blobs(21), epochs=4, batch_size=8)
    half, _ = quiet(start(), blobs(21), epochs=2, batch_size=8)
    both, history = quiet(half, blobs(21), epochs=2, batch_size=8)
    assert equal(whole, both)
    assert [record["epoch"] for record in history] == [3, 4]


def test_a_run_folder_gets_metrics_and_curves():
    run = train.RunFolder.create("runs/toy", {"epochs": 2})
    _, history = quiet(start(), blobs(20), test_data=blobs(9), epochs=2, batch_size=8, run=run)
    assert run.metrics() == history
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run / "config.json").read_text()) == {"epochs": 2}
    assert {path.name for path in run.path.iterdir()} == {"config.json", "metrics.jsonl", "curves.png"}


def test_a_profile_holds_the_operations_of_one_program():
    quiet(start(), blobs(20), epochs=3, batch_size=8, profile="profile")
    (path,) = Path("profile").rglob("perfetto_trace.json.gz")
    with gzip.open(path) as file:
        names = [str(event.get("name")) for event in json.load(file)["traceEvents"]]
    assert sum(name.startswith("dot") for name in names) >= 3 * 2  # three steps, two layers, forward alone
    assert not any(name.startswith("$") for name in names)  # no calls of Python
    assert list(Path("profile").rglob("*.xplane.pb"))


def test_a_profile_that_cannot_be_written_does_not_end_training(monkeypatch):
    def full():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: No space left on device")

    stop = jax.profiler.stop_trace
    monkeypatch.setattr(jax.profiler, "stop_trace", full)
    folder = Path("profile").absolute()
    with pytest.warns(RuntimeWarning, match=f"profile: the trace could not be written to {folder} .RESOURCE_EXHAUSTED"):
        _, history = quiet(start(), blobs(20), epochs=3, batch_size=8, profile="profile")
    stop()
    assert len(history) == 3
    Path("file").touch()
    with pytest.raises(FileExistsError, match="file"):
        quiet(start(), blobs(20), epochs=1, batch_size=8, profile="file")


def test_the_first_process_alone_writes(monkeypatch, capsys):
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    run = train.RunFolder.create("runs/toy")
    train.fit(
        start(), blobs(20), train.losses.classification(), epochs=1, batch_size=8, run=run, profile=run / "profile"
    )
    assert list(run.path.iterdir()) == []
    assert capsys.readouterr().out == ""


def nan_from(limit):
    """NaN for examples whose target is above a limit that training itself brings down."""

    def loss_fn(w, batch, key):
        x, y = batch
        return jnp.where(w[0] > limit, jnp.nan, 1.0) * (x @ w - y) ** 2, {}

    return loss_fn


def test_a_lost_loss_stops_with_place_and_advice():
    x = np.ones((8, 1), np.float32)
    data = x, np.full(8, 10, np.float32)
    run = train.RunFolder.create("runs/lost")
    state = train.create_state(jnp.zeros(1), optax.sgd(0.01), jax.random.key(0))
    with pytest.raises(train.loop.NonFiniteLossError, match=r"became nan in epoch 3, step 6.*learning rate") as caught:
        train.fit(state, data, nan_from(0.9), epochs=5, batch_size=4, run=run, progress=False)
    assert isinstance(caught.value, RuntimeError)
    assert (caught.value.epoch, caught.value.step) == (3, 6)
    kept = run.metrics()
    assert [record["epoch"] for record in kept] == [1, 2, 3]
    assert kept[1]["train_loss"] > 0
    assert kept[2]["train_loss"] is None
    assert len(caught.value.history) == 3
    assert (run / "curves.png").exists()


def test_a_gradient_lost_at_the_very_end_is_found():
    def loss_fn(w, batch, key):
        return jnp.sqrt(w - w + 0 * batch), {}

    state = train.create_state(jnp.float32(1), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(train.loop.NonFiniteLossError, match="the gradient became nan in epoch 1, step 1"):
        train.fit(state, jnp.ones(4), loss_fn, epochs=1, batch_size=4, progress=False)


def test_data_with_nan_is_named_as_the_cause():
    data = blobs(20)
    data.images[3, 1] = np.nan
    told = r"the training data itself holds NaN or infinity, the first \.images in example 3"
    with pytest.raises(train.loop.NonFiniteLossError, match=told):
        quiet(start(), data, epochs=1, batch_size=8)


def test_labels_of_a_loss_of_ones_own_are_pointed_at_first():
    def loss_fn(model, batch, key):
        return optax.softmax_cross_entropy_with_integer_labels(model(batch.images), batch.labels), {}

    points = blobs(20)
    points.labels[4] = 3
    with pytest.raises(
        train.loop.NonFiniteLossError, match=r"see first that \.labels, from 0 to 3, are classes .*; then try a l"
    ):
        quiet(start(), points, loss_fn, epochs=1, batch_size=8)


def test_a_lost_test_loss_stops_too():
    test = blobs(9)
    test.images[0, 0] = np.inf
    told = r"the test loss became nan in epoch 1, step 3, .* the test data itself holds NaN"
    with pytest.raises(train.loop.NonFiniteLossError, match=told):
        quiet(start(), blobs(20), test_data=test, epochs=2, batch_size=8)


def test_an_interrupted_run_keeps_its_metrics_and_draws_them(monkeypatch):
    run = train.RunFolder.create("runs/stopped")
    log = run.log

    def stop_after_two(record):
        log(record)
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "log", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        quiet(start(), blobs(20), epochs=5, batch_size=8, run=run)
    assert len(run.metrics()) == 2
    assert (run / "curves.png").exists()


def test_one_run_folder_holds_one_training():
    run = train.RunFolder.create("runs/one")
    state, _ = quiet(start(), blobs(20), epochs=1, batch_size=8, run=run)

    def again(record=None, state=None):
        quiet(start(), blobs(20), epochs=1, batch_size=8, run=run)

    with pytest.raises(
        ValueError, match=r"run: expected a folder of this .* holds epochs after 0 already\); give each"
    ):
        again()
    with pytest.raises(ValueError, match=r"another training writes to .*one\); give each its own"):
        quiet(state, blobs(20), epochs=1, batch_size=8, run=run, sinks=[again])  # the same training, later epochs
    assert [record["epoch"] for record in run.metrics()] == [1, 2]
    assert not (run / ".lock").exists()


def test_a_run_folder_that_cannot_be_written_is_reported_before_training():
    run = train.RunFolder.create("runs/gone")
    shutil.rmtree(run.path)
    run.path.touch()
    with pytest.raises(ValueError, match=r"run: expected a folder that can be written, got .*gone \(.+\); choose"):
        quiet(start(), blobs(20), epochs=1, batch_size=8, run=run)


def test_without_matplotlib_the_numbers_are_kept_and_the_cause_is_reported(monkeypatch, capsys):
    def absent(*args):
        raise ImportError("plots need matplotlib: pip install it")

    monkeypatch.setattr(plots, "curves", absent)
    run = train.RunFolder.create("runs/bare")
    train.fit(start(), blobs(20), train.losses.classification(), epochs=1, batch_size=8, run=run)
    assert "curves.png was not drawn: plots need matplotlib" in capsys.readouterr().out
    assert len(run.metrics()) == 1


def test_plain_lines_where_there_is_no_terminal(capsys):
    train.fit(
        start(),
        blobs(20),
        train.losses.classification(),
        test_data=blobs(9),
        epochs=2,
        batch_size=8,
        penalty=train.losses.l2(1e-4),
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("compiled in ")
    assert lines[1].startswith("epoch 1/2  train loss ")
    for part in ("accuracy", "test loss", "test accuracy", "examples/s", "left"):
        assert part in lines[1]


def test_no_epochs_change_nothing():
    state, history = quiet(start(), blobs(20), epochs=0)
    assert history == []
    assert int(state.step) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epochs": -1}, "epochs: "), ({"batch_size": 0}, "batch_size: expected a whole number of at least 1, got 0")],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        quiet(start(), blobs(20), **options)


def test_memory_that_is_not_enough_is_reported_in_a_sentence():
    def loss_fn(w, batch, key):
        side = 1 << 20
        wide = jax.lax.fori_loop(0, 3, lambda i, x: x.at[i, i].add(w), jnp.zeros((side, side), w.dtype))
        return wide[1, 1] * batch, {}  # 4 TiB

    state = train.create_state(jnp.float32(1), optax.sgd(0.1), jax.random.key(0))
    told = r"^the memory is not enough: [\d.]+ GiB more could not be had; use a smaller batch_size .*nnx.remat"
    with pytest.raises(train.devices.OutOfMemoryError, match=told) as caught:
        quiet(state, jnp.ones(4), loss_fn, epochs=1, batch_size=4)
    assert isinstance(caught.value.__cause__, jax.errors.JaxRuntimeError)
