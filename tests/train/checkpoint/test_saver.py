"""Checkpoints: the same bits after a stop, the best one kept, and nothing lost to damage, mix-ups or a full disk."""

import errno
import gc
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from jaxnn import train
from jaxnn.train.checkpoint.fingerprint import fingerprint
from tests.train.toys import MLP, ConvNet, blobs, equal, pictures

FOLDER = "runs/x/checkpoints"


def fit(epochs, model=None, data=None, seed=0, rate=1e-2, **options):
    state = train.create_state(model or MLP(), optax.adam(rate), jax.random.key(seed))
    preprocess = None if data is None else train.image_preprocess()
    data = blobs(21) if data is None else data
    options = {"batch_size": 8, "progress": False, "preprocess": preprocess, **options}
    return train.fit(state, data, train.losses.classification(), epochs=epochs, **options)


def steps():
    return sorted(int(path.name) for path in Path(FOLDER).glob("[0-9]*"))


def test_a_run_in_two_parts_equals_the_whole_bit_for_bit():
    whole, history = fit(4, ConvNet(), pictures(21))
    fit(2, ConvNet(), pictures(21), checkpoints=train.Checkpoints(FOLDER))
    run = train.RunFolder.create("runs/y")
    saved = train.Checkpoints(FOLDER, resume=True)
    parts, again = fit(4, ConvNet(), pictures(21), run=run, checkpoints=saved)
    assert equal(whole, parts)
    assert [r["train_loss"] for r in history] == [r["train_loss"] for r in again]
    assert [r["epoch"] for r in run.metrics()] == [1, 2, 3, 4]


def test_an_epoch_in_chunks_has_the_same_numbers():
    whole, history = fit(2, ConvNet(), pictures(21))
    parts, again = fit(2, ConvNet(), pictures(21), chunk=2)
    assert equal(whole, parts)
    assert [r["train_loss"] for r in history] == [r["train_loss"] for r in again]


def test_the_newest_and_the_best_are_kept():
    saved = train.Checkpoints(FOLDER, keep=1, best="train_loss")
    _, history = fit(4, checkpoints=saved)
    best = min(history, key=lambda r: r["train_loss"])["step"]
    assert set(steps()) == {best, 12}


def test_the_newest_and_the_best_are_read_again_without_the_run():
    states = {}
    options = {"best": "train_loss", "best_mode": "max", "keep": 1}
    sinks = [lambda record, state: states.update({record["step"]: jax.device_get(state.params)})]
    last, history = fit(3, checkpoints=train.Checkpoints(FOLDER, **options), sinks=sinks)
    best, until = train.checkpoint.restore(FOLDER, last, best=True)
    assert (equal(best.params, states[3]), until) == (True, history[:1])  # the loss is highest after the first epoch
    newest, whole = train.checkpoint.restore(FOLDER, best)
    assert (equal(newest, last), whole) == (True, history)
    shutil.rmtree(f"{FOLDER}/3/about")
    with pytest.raises(train.checkpoint.CheckpointError, match=f"{FOLDER}/3 "):
        train.checkpoint.restore(FOLDER, last, best=True)


def test_the_best_is_kept_when_a_run_is_resumed_and_compared_by_what_is_said_now():
    def run(epochs, mode):
        saved = train.Checkpoints(FOLDER, best="train_loss", best_mode=mode, keep=1, resume=epochs > 1)
        last, _ = fit(epochs, checkpoints=saved)
        return steps(), len(train.checkpoint.restore(FOLDER, last, best=True)[1])

    run(1, "max")
    assert run(3, "max") == ([3, 9], 1)  # the loss is highest after the first epoch
    assert run(4, "min") == ([12], 4)  # and lowest after the last one


def test_arrays_without_elements_do_not_prevent_a_checkpoint():
    """Orbax refuses them."""
    like = train.create_state({"w": np.ones(2), "none": np.ones((0, 3))}, optax.sgd(0.5), jax.random.key(0))
    with train.checkpoint.Saver(train.Checkpoints(FOLDER)) as saver:
        assert saver.save(like, train.checkpoint.Position(), wait=True)
    again, _ = train.checkpoint.restore(FOLDER, like)
    assert equal(again, like)
    # Programs for committed arrays are others: a resumed run would compile all of its own again.
    assert not any(leaf.committed for leaf in jax.tree.leaves(again))


def test_what_cannot_be_read_again_is_reported():
    state, _ = fit(1, checkpoints=train.Checkpoints(FOLDER))
    for folder, best, told in ((FOLDER, True, "best: expected a run that"), ("runs", False, "folder: expected check")):
        with pytest.raises(train.checkpoint.CheckpointError, match=told):
            train.checkpoint.restore(folder, state, best=best)
    with pytest.raises(ValueError, match="best_mode: expected 'auto', 'min' or 'max', got 'higher'"):
        train.Checkpoints(FOLDER, best="test_f1", best_mode="higher")


def test_a_folder_in_use_is_not_overwritten():
    fit(1, checkpoints=train.Checkpoints(FOLDER))
    with pytest.raises(ValueError, match="holds those of a run already; resume=True"):
        fit(1, checkpoints=train.Checkpoints(FOLDER))
    assert steps() == [3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": blobs(22)}, "is another one: data was"),
        ({"model": MLP(classes=4)}, "the model and optimiser in .* is another one"),
        ({"batch_size": 7}, "batch_size was 8 there and is 7 now"),
        ({"data": blobs(21, seed=5)}, "data was"),
        ({"checkpoints": train.Checkpoints(FOLDER, resume=True, config={"rate": 2})}, "rate was 1 there and is 2 now"),
    ],
    ids=["data", "model", "batch size", "same shape", "configuration"],
)
def test_a_checkpoint_of_another_run_is_refused_and_stays(change, message):
    fit(1, checkpoints=train.Checkpoints(FOLDER, config={"rate": 1}))
    resumed = {"checkpoints": train.Checkpoints(FOLDER, resume=True, config={"rate": 1})}
    with pytest.raises(train.checkpoint.CheckpointError, match=message):
        fit(2, **(resumed | change))
    assert steps() == [3]


# What Orbax was reading at the time it lets fall without a word, and Python says so when it collects the pieces.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_taken(damage):
    whole, _ = fit(3)
    fit(2, checkpoints=train.Checkpoints(FOLDER))
    for path in (Path(FOLDER) / "6").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            content = bytearray(path.read_bytes())
            if damage == "flip":
                content[len(content) // 2] ^= 0xFF
                path.write_bytes(content)
            elif damage == "cut":
                path.write_bytes(content[: len(content) // 2])
            else:
                path.unlink()
    with pytest.warns(train.checkpoint.CheckpointWarning, match="the checkpoint of step 6 is damaged"):
        resumed, _ = fit(3, checkpoints=train.Checkpoints(FOLDER, resume=True))
    assert equal(whole, resumed)
    assert (Path(FOLDER) / "damaged-6").is_dir()
    gc.collect()


def fill_the_disk(monkeypatch):
    import orbax.checkpoint as ocp

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)


def test_a_full_disk_is_reported_and_training_ends_well(monkeypatch):
    fit(1, checkpoints=train.Checkpoints(FOLDER))
    fill_the_disk(monkeypatch)
    whole, _ = fit(2)
    told = r"step 6 could not be written .*No space left on device.*; the last good one is that of step 3"
    with pytest.warns(train.checkpoint.CheckpointWarning, match=told):
        state, _ = fit(2, checkpoints=train.Checkpoints(FOLDER, resume=True))
    assert equal(state, whole)
    assert steps() == [3]


def test_a_folder_that_cannot_be_written_to_is_reported_before_training():
    Path("file").write_text("mine")
    with pytest.raises(OSError, match=r"checkpoints: .*file.* cannot be written to .*; choose a folder"):
        fit(1, checkpoints=train.Checkpoints("file/checkpoints"))
    assert Path("file").read_text() == "mine"
    with pytest.raises(ValueError, match=r"path has no \* \? \[ or backslash, got .*seeds=\[1\]; .*choose another"):
        fit(1, checkpoints=train.Checkpoints("runs/seeds=[1]"))
    assert not Path("runs").exists()


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_a_checkpoint_comes_back_in_the_shardings_of_the_state():
    from jax.sharding import NamedSharding, PartitionSpec

    state = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    with train.checkpoint.Saver(train.Checkpoints(FOLDER)) as saver:
        saver.save(state, train.checkpoint.Position(), wait=True)
    mesh = jax.make_mesh((8,), ("data",))
    spread = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    with train.checkpoint.Saver(train.Checkpoints(FOLDER, resume=True)) as saver:
        restored, _ = saver.restore(spread)
    assert equal(restored, state)
    assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, spread)


def test_a_fingerprint_sees_every_bit():
    x = np.random.default_rng(0).normal(size=50).astype(np.float16)
    before = int(fingerprint(x))
    for i in range(50):
        y = x.copy()
        y.view(np.uint16)[i] ^= 1 << (i % 16)
        assert int(fingerprint(y)) != before


def test_a_folder_at_which_somebody_works_is_left_alone_until_it_is_free():
    state = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    resumed = train.Checkpoints(FOLDER, resume=True)
    with train.checkpoint.Saver(train.Checkpoints(FOLDER)) as saver:
        saver.save(state, train.checkpoint.Position(), wait=True)
        half_written = Path(FOLDER) / "7.orbax-checkpoint-tmp"
        half_written.mkdir()
        for options in (resumed, train.Checkpoints(FOLDER)):
            with pytest.raises(
                train.checkpoint.CheckpointError, match=r"another process is training with .*; wait until it has"
            ):
                train.checkpoint.Saver(options)
        assert half_written.exists()
    with train.checkpoint.Saver(resumed) as saver:
        assert equal(saver.restore(state)[0], state)
    assert not (Path(FOLDER) / ".lock").exists()


def test_a_folder_that_was_refused_is_free_again():
    fit(1, checkpoints=train.Checkpoints(FOLDER))
    with pytest.raises(ValueError, match="holds those of a run already"):
        train.checkpoint.Saver(train.Checkpoints(FOLDER))
    fit(1, checkpoints=train.Checkpoints(FOLDER, resume=True))


def test_a_name_to_choose_the_best_by_that_does_not_exist_is_reported():
    with pytest.raises(ValueError, match=r"best: expected one of the record, .* got 'test_loss'"):
        fit(1, checkpoints=train.Checkpoints(FOLDER, best="test_loss"))
    with pytest.raises(ValueError, match="best: expected True or False, got 'test_loss'; the metric is"):
        train.checkpoint.restore(FOLDER, None, best="test_loss")


def test_what_could_not_be_saved_is_not_said_to_be(monkeypatch):
    fill_the_disk(monkeypatch)
    state = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    with (
        train.checkpoint.Saver(train.Checkpoints(FOLDER)) as saver,
        pytest.warns(train.checkpoint.CheckpointWarning, match="No space left"),
    ):
        assert not saver.save(state, train.checkpoint.Position(), wait=True)


def lose(how):
    """Loses every checkpoint of a run, as it happens to people."""
    for path in list(Path(FOLDER).glob("[0-9]*")):
        if how == "deleted":
            shutil.rmtree(path)
        else:
            for file in path.rglob("*"):
                if file.is_file():
                    file.write_bytes(b"" if how == "emptied" else bytes(byte ^ 0xFF for byte in file.read_bytes()))
    if how == "folder deleted":
        shutil.rmtree(FOLDER)


def files(folder):
    return {
        path: path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and "checkpoints" not in path.parts
    }


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:the checkpoint of step .* is damaged")
@pytest.mark.parametrize("how", ["deleted", "folder deleted", "emptied", "inverted"])
@pytest.mark.parametrize("loop", ["fit", "ensemble.fit"])
def test_a_run_without_a_whole_checkpoint_is_never_trained_over(how, loop):
    run = train.RunFolder.create("runs/x")

    def again(resume=True):
        checkpoints = train.Checkpoints(FOLDER, resume=resume)
        if loop == "fit":
            return fit(1, run=run, checkpoints=checkpoints)
        states = train.ensemble.create(lambda key: MLP(), optax.adam(1e-2), {"seed": [0]})
        loss_fn, options = train.losses.classification(), {"batch_size": 8, "progress": False}
        return train.ensemble.fit(states, blobs(21), loss_fn, epochs=1, run=run, checkpoints=checkpoints, **options)

    again(resume=False)
    before = files("runs/x")
    lose(how)
    for _ in range(2):  # what the first refusal leaves is no reason for the second to train
        with pytest.raises(
            train.checkpoint.CheckpointError, match="nothing of it was overwritten: start a new run in another"
        ):
            again()
        assert files("runs/x") == before
    if how in ("emptied", "inverted"):
        assert [path.name for path in Path(FOLDER).glob("damaged-*")] == ["damaged-3"]
        with pytest.raises(ValueError, match="holds those of a run already"):
            again(resume=False)
    gc.collect()


def test_a_run_that_left_nothing_yet_starts_where_it_is_to_resume():
    run = train.RunFolder.create("runs/x", {"epochs": 1})
    fit(1, run=run, checkpoints=train.Checkpoints(FOLDER, resume=True))
    assert [record["epoch"] for record in run.metrics()] == [1]


@pytest.mark.parametrize("line", [b'{"epoch": 1, \xff\xfe\n', b"{\n", b"7\n"])
def test_damaged_metrics_are_put_aside_and_written_anew(line):
    run = train.RunFolder.create("runs/x")
    fit(2, run=run, checkpoints=train.Checkpoints(FOLDER))
    path = run / "metrics.jsonl"
    whole = path.read_bytes()
    damaged = line + whole.split(b"\n", 1)[1]
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"x.metrics.jsonl, line 1: expected a record, .*; repair or remove that line"):
        run.metrics()
    with pytest.warns(
        train.checkpoint.CheckpointWarning, match=r"metrics.jsonl, line 1: .*; it was put aside as metrics-damaged"
    ):
        fit(2, run=run, checkpoints=train.Checkpoints(FOLDER, resume=True))
    assert path.read_bytes() == whole
    assert (run / "metrics-damaged.jsonl").read_bytes() == damaged
