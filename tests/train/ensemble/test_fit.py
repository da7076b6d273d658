import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import train
from tests.train.toys import MLP, ConvNet, Counted, bits, blobs, equal, pictures

ADAM = train.optimizer("adam", 1e-2, steps=100)
LOSS = train.losses.classification()
TABLE = {"learning_rate": [1e-3, 1e-2, 3e-2], "seed": [0, 1, 2]}


def quiet(states, data, loss_fn=LOSS, **options):
    return train.ensemble.fit(states, data, loss_fn, progress=False, **options)


def test_histories_are_those_of_the_runs_alone():
    """Of a network with everything that has state of its own, over all devices there are."""
    options = {
        "test_data": pictures(9, seed=1),
        "epochs": 2,
        "batch_size": 8,
        "penalty": train.losses.l2(1e-3),
        "preprocess": train.image_preprocess(augmentation=train.augment.random_flip),
    }
    states, histories = quiet(train.ensemble.create(ConvNet, ADAM, TABLE), pictures(21), **options)
    key = jax.random.key(2)
    alone = train.create_state(ConvNet(key), train.optimizer("adam", 3e-2, steps=100), key)
    alone, history = train.fit(alone, pictures(21), LOSS, progress=False, **options)
    assert len(histories) == 3
    for record, expected in zip(histories[2], history, strict=True):
        assert list(record) == [name for name in expected if name not in ("seconds", "examples_per_second")]
        for name, value in record.items():
            assert value == pytest.approx(expected[name], rel=1e-3), name
    one = train.ensemble.member(states, 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), one.params, alone.params)


def test_one_trace_over_a_whole_fit_and_no_implicit_copy_to_the_device():
    loss_fn, states = Counted(), train.ensemble.create(MLP, ADAM, TABLE)
    with jax.transfer_guard("disallow"):
        quiet(states, blobs(20), loss_fn, test_data=blobs(9), epochs=3, batch_size=8)
    assert (loss_fn.training, loss_fn.evaluation) == (1, 1)


@pytest.mark.skipif(jax.device_count() < 3, reason="needs three devices")
def test_a_diverged_member_is_reported_and_the_others_continue(capsys):
    run = train.RunFolder.create("runs/sweep")
    table = TABLE | {"learning_rate": [1e-2, 1e38, 1e-2]}
    states, histories = train.ensemble.fit(
        train.ensemble.create(MLP, ADAM, table), blobs(20), LOSS, test_data=blobs(9), epochs=3, batch_size=8, run=run
    )
    assert [train.ensemble.diverged(history) for history in histories] == [False, True, False]
    assert [len(history) for history in histories] == [3, 1, 3]
    assert np.isfinite(train.ensemble.member(states, 2).params["out"]["kernel"]).all()
    out = capsys.readouterr().out
    assert out.count("diverged") == 1
    assert "member 1 (learning_rate 1e+38) diverged in epoch 1, step 2; the others train on" in out
    lines = out.splitlines()
    assert lines[0].startswith("compiled in ")
    assert lines[0].endswith("3 members over 3 devices")
    assert lines[-1].startswith("epoch 3/3  train loss ")
    assert "nan" not in lines[-1]
    kept = run.metrics()
    assert [record["epoch"] for record in kept] == [1, 2, 3]
    assert kept[2]["train_loss"][1] is None
    assert kept[2]["test_accuracy"][2] == pytest.approx(histories[2][-1]["test_accuracy"])


def test_a_test_loss_alone_may_show_it(capsys):
    test = blobs(9)
    test.images[0, 0] = np.inf
    states = train.ensemble.create(MLP, ADAM, {"seed": [0]})
    with pytest.raises(train.loop.NonFiniteLossError, match="all 1 members diverged"):
        train.ensemble.fit(states, blobs(20), LOSS, test_data=test, epochs=2, batch_size=8)
    assert "member 0 diverged in epoch 1, step 3" in capsys.readouterr().out


def test_where_all_diverge_training_stops():
    states = train.ensemble.create(MLP, ADAM, TABLE | {"learning_rate": [1e38] * 3})
    with pytest.raises(train.loop.NonFiniteLossError, match="try a learning rate 3 to 10 times lower") as caught:
        quiet(states, blobs(20), epochs=5, batch_size=8)
    assert (caught.value.epoch, caught.value.step) == (1, 3)


def test_two_fits_equal_one_long_fit():
    options = {"batch_size": 8, "devices": jax.devices()[:1]}
    whole, _ = quiet(train.ensemble.create(MLP, ADAM, TABLE), blobs(20), epochs=2, **options)
    half, _ = quiet(train.ensemble.create(MLP, ADAM, TABLE), blobs(20), epochs=1, **options)
    both, histories = quiet(half, blobs(20), epochs=1, **options)
    assert equal(whole, both)
    assert [record["epoch"] for record in histories[0]] == [2]
    assert histories[0][0]["step"] == int(both.step[0])


def test_no_epochs_change_nothing():
    states, histories = quiet(train.ensemble.create(MLP, ADAM, TABLE), blobs(20), epochs=0)
    assert histories == [[], [], []]
    assert not any(map(train.ensemble.diverged, histories))
    assert states.step.tolist() == [0, 0, 0]


SAVED = "runs/sweep/checkpoints"


class StopsAfter(train.RunFolder):
    """A run folder whose process is asked to stop once an epoch is logged."""

    epoch = 2

    def log(self, record):
        super().log(record)
        if record["epoch"] == self.epoch:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.optimized
def test_a_sweep_that_was_stopped_ends_as_the_whole_bit_for_bit_and_who_diverged_stays_so(capsys):
    table = TABLE | {"learning_rate": [1e-2, 1e38, 3e-2]}

    def fit(epochs=4, **options):
        states = train.ensemble.create(ConvNet, ADAM, table)
        options = {"preprocess": train.image_preprocess(), "test_data": pictures(9, seed=1), "batch_size": 8, **options}
        return train.ensemble.fit(states, pictures(21), LOSS, epochs=epochs, **options)

    whole, expected = fit()
    run = StopsAfter.create("runs/sweep")
    with pytest.raises(train.checkpoint.Interrupted, match="SIGTERM stopped training after step 6, which is saved"):
        fit(run=run, checkpoints=train.Checkpoints(SAVED, every=3))
    capsys.readouterr()
    parts, histories = fit(run=train.RunFolder(run.path), checkpoints=train.Checkpoints(SAVED, resume=True))
    assert "diverged" not in capsys.readouterr().out  # told already
    for one, other in zip(jax.tree.leaves((parts, histories)), jax.tree.leaves((whole, expected)), strict=True):
        np.testing.assert_array_equal(bits(one), bits(other))
    assert [len(history) for history in histories] == [4, 1, 4]
    assert [record["epoch"] for record in run.metrics()] == [1, 2, 3, 4]
    assert [record["train_loss"][1] for record in run.metrics()] == [None] * 4


@pytest.mark.parametrize(
    ("table", "saved", "message"),
    [
        (TABLE | {"seed": [0, 1, 3]}, {"resume": True}, "is another one: the members' keys was"),
        (
            TABLE | {"learning_rate": [1e-3, 1e-2, 0.5]},
            {"resume": True},
            "is another one: the members' learning_rate was",
        ),
        ({"learning_rate": [0.1], "seed": [0]}, {"resume": True}, "is another one: the members' keys was"),
        (TABLE, {}, "holds those of a run already; resume=True"),
        (TABLE, {"best": "test_loss"}, "expected best=None, .* got best='test_loss'"),
    ],
    ids=["seed", "rate", "fewer", "in use", "best"],
)
def test_checkpoints_of_other_members_are_refused_and_stay(table, saved, message):
    quiet(
        train.ensemble.create(MLP, ADAM, TABLE), blobs(20), epochs=1, batch_size=8, checkpoints=train.Checkpoints(SAVED)
    )
    states = train.ensemble.create(MLP, ADAM, table)
    with pytest.raises(ValueError, match=message):
        quiet(states, blobs(20), epochs=2, batch_size=8, checkpoints=train.Checkpoints(SAVED, **saved))
    assert [path.name for path in Path(SAVED).glob("[0-9]*")] == ["3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs: "),
        ({"batch_size": 0}, "batch_size: expected a whole number of at least 1, got 0"),
        ({"members_per_chunk": 0}, "members_per_chunk: expected a whole number"),
        ({"memory": 1}, "memory: expected at least .* for one member at a time"),
    ],
)
def test_wrong_options_are_named(options, message):
    states = train.ensemble.create(lambda key: jnp.zeros(6), optax.sgd(0.1), {"seed": [0, 1]})

    def loss_fn(w, batch, key):
        return (batch.images @ w) ** 2, {}

    with pytest.raises(ValueError, match=message):
        quiet(states, blobs(20), loss_fn, **{"batch_size": 8, **options})
