"""Sinks see each record once, in order, and end a run with everything a run leaves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import data, testing, train
from tests.train.toys import quadratic

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
DATA = X, X @ np.array([1.0, -2.0, 0.5], np.float32)


def fit(*sinks, epochs=6, **options):
    state = train.create_state(jnp.zeros(3), optax.sgd(0.05), jax.random.key(0))
    return train.fit(
        state, DATA, quadratic, test_data=DATA, epochs=epochs, batch_size=4, progress=False, sinks=sinks, **options
    )


def stop_after(epoch):
    return lambda record, state: train.STOP if record["epoch"] == epoch else None


def test_each_record_is_shown_once_with_the_state_it_describes():
    seen = []
    _, history = fit(lambda record, state: seen.append((record, int(state.step))), epochs=3)
    assert [record for record, _ in seen] == history
    assert [step for _, step in seen] == [3, 6, 9]


def test_stop_ends_the_run_with_state_checkpoint_metrics_and_curves():
    run, seen = train.RunFolder.create("runs/stopped"), []
    saved = train.Checkpoints(run / "checkpoints", every=5)
    state, history = fit(stop_after(2), lambda record, state: seen.append(record), run=run, checkpoints=saved)
    whole, _ = fit(epochs=2)
    np.testing.assert_array_equal(state.params, whole.params)
    assert [record["epoch"] for record in history] == [1, 2]
    assert seen == history == run.metrics()  # a sink after the one that stops sees the last record too
    assert (run / "curves.png").exists()
    assert [path.name for path in (run / "checkpoints").glob("[0-9]*")] == ["6"]
    resumed = train.Checkpoints(run / "checkpoints", resume=True)
    state, history = fit(epochs=4, run=train.RunFolder(run.path), checkpoints=resumed)
    np.testing.assert_array_equal(state.params, fit(epochs=4)[0].params)
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]


def test_the_person_is_told_who_stopped_the_run(capsys):
    state = train.create_state(jnp.zeros(3), optax.sgd(0.0), jax.random.key(0))
    stopping = train.early_stopping("train_loss", patience=2, min_delta=0.1)
    _, history = train.fit(state, DATA, quadratic, epochs=9, batch_size=4, sinks=[stopping])
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert "stopped after step 9 by early_stopping('train_loss', patience=2)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("metric", "values", "stops"),
    [
        ("test_loss", [3.0, 2.0, 2.5, 1.9, 2.0, 1.9], 6),
        ("test_accuracy", [0.1, 0.5, 0.4, 0.5], 4),
        ("test_loss", [1.0, float("nan"), None], 3),
        ("test_loss", [[3.0, 1.0], [2.0, 1.0], [2.0, 0.5], [2.0, 0.5], [2.0, 0.6]], 5),  # members: the last to improve
    ],
)
def test_early_stopping_waits_for_no_improvement_of_the_best(metric, values, stops):
    stopping = train.early_stopping(metric, patience=2)
    told = [stopping({metric: value}) for value in values]
    assert told.index(train.STOP) + 1 == stops


def test_early_stopping_is_told_which_way_is_better():
    stopping = train.early_stopping("test_f1", patience=1, mode="max")
    assert [stopping({"test_f1": value}) for value in (0.1, 0.5, 0.4)] == [None, None, train.STOP]


def test_a_sink_that_has_stopped_a_run_serves_the_next():
    stopping = train.early_stopping("train_loss", patience=1, min_delta=1e9)
    assert [len(fit(stopping)[1]) for _ in range(2)] == [2, 2]


def test_small_improvements_count_as_none():
    stopping = train.early_stopping("test_loss", patience=1, min_delta=0.1)
    assert [stopping({"test_loss": value}) for value in (1.0, 0.95)] == [None, train.STOP]


def test_a_resumed_run_has_waited_and_trained_before():
    history = [{"test_loss": 1.0, "seconds": 30.0}] * 3
    assert train.early_stopping("test_loss", patience=2).resume(history) is train.STOP
    assert train.early_stopping("test_loss", patience=3).resume(history) is None
    assert train.time_limit(1.4).resume(history) is train.STOP
    assert train.time_limit(100.0).resume(history) is None


def test_a_run_that_was_stopped_stays_stopped_until_the_patience_is_raised():
    def again(patience, resume=True):
        saved = train.Checkpoints("runs/patient/checkpoints", resume=resume)
        state = train.create_state(jnp.zeros(3), optax.sgd(0.0), jax.random.key(0))
        sinks = [train.early_stopping("train_loss", patience=patience, min_delta=0.1)]
        return train.fit(
            state, DATA, quadratic, epochs=9, batch_size=4, progress=False, sinks=sinks, checkpoints=saved
        )[1]

    assert [len(again(2, resume=False)), len(again(2)), len(again(4))] == [3, 3, 5]


class Logger:
    """A sink as a logger of experiments has it: open while training runs."""

    def __init__(self):
        self.events = []

    def __enter__(self):
        self.events.append("open")
        return self

    def __exit__(self, *error):
        self.events.append("closed")

    def __call__(self, record, state):
        self.events.append(record["epoch"])
        if record["epoch"] == 2:
            raise KeyboardInterrupt


def test_a_context_manager_is_open_during_training_and_closed_after_an_error():
    logger = Logger()
    with pytest.raises(KeyboardInterrupt):
        fit(logger)
    assert logger.events == ["open", 1, 2, "closed"]


def test_an_ensemble_shows_lists_and_stops_too():
    states = train.ensemble.create(lambda key: jnp.zeros(3), optax.sgd(0.05), {"seed": [0, 1]})
    seen = []
    states, histories = train.ensemble.fit(
        states, DATA, quadratic, epochs=5, batch_size=4, progress=False,
        sinks=[lambda record, states: seen.append(record), stop_after(2)],
    )  # fmt: skip
    assert [len(history) for history in histories] == [2, 2]
    assert [record["train_loss"] for record in seen] == [[h[e]["train_loss"] for h in histories] for e in range(2)]


@pytest.mark.parametrize(
    ("sinks", "told"),
    [
        (lambda record, state: None, "sinks: expected a list of callables"),
        ([None], "sinks: expected a list of callables"),
        ([train.time_limit], r"sinks: expected a function .*; call it: train.time_limit\(...\)"),
        ([Logger], "sinks: expected a function .*, got the class Logger; give an instance"),
        (
            [lambda record, state: record["train_loss"] < 1e-3],
            "sinks: expected None or train.STOP from <lambda>, got False",
        ),
    ],
)
def test_wrong_sinks_are_reported(sinks, told):
    state = train.create_state(jnp.zeros(3), optax.sgd(0.05), jax.random.key(0))
    with pytest.raises(ValueError, match=told):
        train.fit(state, DATA, quadratic, epochs=1, batch_size=4, progress=False, sinks=sinks)


@pytest.mark.parametrize("kind", ["whole", "stream", "ensemble"])
def test_a_metric_that_is_missing_is_reported_before_training(kind):
    state = train.create_state(jnp.zeros(3), optax.sgd(0.05), jax.random.key(0))
    training, set_ = train.fit, DATA
    if kind == "stream":
        set_ = data.Stream(DATA)
    elif kind == "ensemble":
        state, training = train.ensemble.create(lambda key: jnp.zeros(3), optax.sgd(0.05), {"seed": [0, 1]}), None
        training = train.ensemble.fit
    names = "epoch, (examples_per_second, )?seconds, step, (test_loss, )?train_grad_norm, train_loss"
    wrong = (
        {"sinks": [train.early_stopping("val_loss")]},
        {"checkpoints": train.Checkpoints("runs/none", best="val_loss")},
    )
    for options, name in zip(wrong if kind != "ensemble" else wrong[:1], ("metric", "best"), strict=False):
        with (
            testing.record_compilations() as compiled,
            pytest.raises(
                ValueError, match=f"{name}: expected one of the record, {names}, got 'val_loss'; test metrics"
            ),
        ):
            training(state, set_, quadratic, batch_size=4, progress=False, **options)
        assert not any("epoch" in program or "step" in program for program in compiled)
    # The names are those that the records have.
    told = []

    class Reader:
        check_names = staticmethod(lambda names: told.append(set(names)))

        def __call__(self, record, state):
            told.append(set(record))

    training(state, set_, quadratic, test_data=DATA, epochs=1, batch_size=4, progress=False, sinks=[Reader()])
    assert told[0] == told[1]


def test_the_first_record_of_a_program_of_ones_own_names_what_is_missing():
    class One(train.loop.Program):
        def remaining(self, state):
            return 2 - int(state.step)

        def run(self, state):
            return dataclasses.replace(state, step=state.step + 1), {}

        def record(self, state, metrics, seconds, position):
            return {"epoch": int(state.step), "loss": 1.0}

    state = train.create_state(jnp.zeros(3), optax.sgd(0.05), jax.random.key(0))
    saved = train.Checkpoints("runs/own", every=2, best="accuracy")
    with pytest.raises(ValueError, match="best: expected one of the record, epoch, loss, got 'accuracy'"):
        train.loop.drive(One(), state, checkpoints=saved)
    with pytest.raises(ValueError, match="best: expected the name of a metric, or None, got True"):
        train.Checkpoints("runs/own", best=True)


@pytest.mark.parametrize("minutes", [0, -1.0, float("nan"), "10"])
def test_a_time_limit_is_positive(minutes):
    with pytest.raises(ValueError, match="minutes: expected a positive number, got"):
        train.time_limit(minutes)
