"""Every argument that counts something takes whole numbers and nothing else, and says so before any work."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import data, inspect, models, modules, train
from jaxnn import functional as F
from jaxnn.counts import check_count
from jaxnn.train.step import augment

KEY = jax.random.key(0)
PICTURES = jnp.zeros((2, 8, 8, 1))
ROWS = np.eye(4, dtype=np.float32)


def loss_fn(w, batch, key):
    return batch @ w, {}


@functools.cache
def state():
    return train.create_state(jnp.zeros(4), optax.sgd(0.1), KEY)


@functools.cache
def members():
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    return train.ensemble.create(lambda key: jnp.zeros(4), tx, train.ensemble.grid(seed=[0, 1]))


def fit(**options):
    train.fit(state(), ROWS, loss_fn, test_data=ROWS, progress=False, **options)


def fit_members(**options):
    train.ensemble.fit(members(), ROWS, loss_fn, test_data=ROWS, progress=False, **options)


def make_epoch(**options):
    train.make_epoch(train.make_step(loss_fn), **{"batch_size": 2} | options)


def stream(**options):
    train.loop.StreamedEpoch(train.make_step(loss_fn), **{"batch_size": 2} | options)


def stream_call(**options):
    train.loop.StreamedEpoch(train.make_step(loss_fn), batch_size=2)(state(), data.Stream(ROWS), **options)


COUNTS = {
    "fit": (fit, "epochs", "batch_size", "test_batch_size", "chunk"),
    "ensemble.fit": (fit_members, "epochs", "batch_size", "test_batch_size", "members_per_chunk", "memory"),
    "make_epoch": (make_epoch, "batch_size", "chunk"),
    "ensemble.make": (lambda **o: train.ensemble.make(loss_fn, **o), "members_per_chunk", "memory"),
    "StreamedEpoch": (stream, "batch_size", "ahead"),
    "StreamedEpoch()": (stream_call, "steps"),
    "evaluate": (lambda **o: train.evaluate(state(), ROWS, loss_fn, **o), "batch_size"),
    "predict": (lambda **o: train.predict(state(), ROWS, lambda w, x: x @ w, **o), "batch_size"),
    "Checkpoints": (lambda **o: train.Checkpoints("runs/a", **o), "every", "keep"),
    "optimizer": (lambda **o: train.optimizer(**o), "steps"),
    "parallel": (lambda **o: train.parallel(**o), "devices", "shard"),
    "reliability": (lambda **o: inspect.reliability([[0.5, 0.5]], [0], **o), "bins"),
    "random_shift": (lambda **o: augment.random_shift(KEY, PICTURES, **o), "pixels"),
    "cutout": (lambda **o: augment.cutout(KEY, PICTURES, **o), "size"),
    "Stream": (lambda **o: data.Stream(ROWS, **o), "workers", "threads", "ahead"),
}
ARGUMENTS = [(function, name) for function, (_, *names) in COUNTS.items() for name in names]


@pytest.mark.parametrize("value", [1.5, 2.0, np.float32(2), True, np.True_, "2", -1, np.int64(-1)], ids=repr)
def test_what_is_no_count_is_refused(value):
    with pytest.raises(ValueError, match=r"^n: expected a whole number of at least 0, got "):
        check_count("n", value, 0)


@pytest.mark.parametrize("value", [2.0, True, -1], ids=repr)
@pytest.mark.parametrize(("function", "name"), ARGUMENTS)
def test_every_function_refuses_it_by_name(function, name, value):
    with pytest.raises(ValueError, match=rf"^{name}: expected a whole number of at least [01], got "):
        COUNTS[function][0](**{name: value})


@pytest.mark.parametrize("value", [3, "3", (2.0,), (-1,), None, (True,)], ids=repr)
def test_what_is_no_shape_is_refused(value):
    cell = modules.LSTMCell(3, 4, rngs=nnx.Rngs(0))
    reader = models.LanguageModel(5, embed_features=4, hidden_features=8, rngs=nnx.Rngs(0))
    for zero_state in (cell.zero_state, modules.Recurrent([cell]).zero_state, reader.zero_state):
        with pytest.raises(ValueError, match=r"^batch: expected a tuple of sizes, for example \(3,\), got "):
            zero_state(value)
    for init in (F.init_rnn, F.init_gru, F.init_lstm, F.init_slstm, F.init_mingru, F.init_minlstm, F.init_lru):
        with pytest.raises(ValueError, match=r"^batch: expected a tuple of sizes"):
            init(KEY, 3, 4).zero_state(value, jnp.float32)
    with pytest.raises(ValueError, match=r"^batch: expected a tuple of sizes"):
        F.init_conv_lstm(KEY, 3, 4, 3).zero_state(value, jnp.float32, (2,))
    with pytest.raises(ValueError, match=r"^input_shape: expected a tuple of sizes"):
        cell.initialize_carry(value)
    with pytest.raises(ValueError, match=r"^streams: expected a whole number of at least 1, got \(2,\)"):
        train.loop.Stateful(reader, (2,))
    with pytest.raises(ValueError, match=r"^features: expected those of the input and the output at least, got 8"):
        models.MLP(8, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^members: expected columns by name, got 8; train.ensemble.grid makes"):
        train.ensemble.create(lambda key: jnp.zeros(4), optax.sgd(0.1), 8)


@pytest.mark.parametrize("value", [2, np.int64(2), np.uint8(2), np.array(2)], ids=repr)
def test_whole_numbers_of_any_kind_are_counts(value):
    number = check_count("n", value)
    assert (type(number), number) == (int, 2)


def test_numbers_of_numpy_train_as_ints_do():
    two = np.int64(2)
    fresh = state.__wrapped__()  # it is donated
    counts = dict.fromkeys(("epochs", "batch_size", "test_batch_size", "chunk"), two)
    history = train.fit(fresh, ROWS, loss_fn, test_data=ROWS, progress=False, **counts)[1]
    assert [record["step"] for record in history] == [2, 4]
