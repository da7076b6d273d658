"""What a dry run reports: where a run would resume, memory, numbers; the whole of it is in tests/experiments."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import data, train
from jaxnn.train.loop.dry_run import memory_rows, metric, position


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([], "has no checkpoint: the run would start from the beginning"),
        ([5, 10], "would resume after 2 of 4 epochs"),
        ([15, 20], "is at its end, after 4 epochs"),
    ],
)
def test_where_a_run_would_go_on(steps, told):
    for step in steps:
        Path(f"run/checkpoints/{step}").mkdir(parents=True)
    assert position(Path("run"), 5, 4) == f"run {told}"


def test_where_each_network_of_a_run_would_go_on():
    for made in ("joint/20", "frozen/5"):
        Path(f"run/checkpoints/{made}").mkdir(parents=True)
    lines = position(Path("run"), 5, 4).splitlines()
    assert lines == ["run, frozen, would resume after 1 of 4 epochs", "run, joint, is at its end, after 4 epochs"]


def test_a_stream_is_refused():
    state = train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match=r"data: expected arrays, got a data.Stream"):
        train.loop.dry_run(state, data.Stream(np.eye(2)), lambda w, b, k: (w.sum(), {}))


def test_a_short_last_batch_that_is_left_out_is_not_counted():
    def loss_fn(w, batch, key):
        return jnp.mean((batch @ w) ** 2), {}

    state = train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0))
    how = {"batch_size": 4, "epochs": 2, "reduction": "batch"}
    told = train.loop.dry_run(state, np.ones((10, 2), np.float32), loss_fn, **how, drop_last=True)
    assert "2 steps" in told


def test_a_backend_that_does_not_tell_its_memory():
    shapes = jax.ShapeDtypeStruct((3, 4), "float32")
    rows = memory_rows(shapes, shapes, shapes, None, jax.devices()[:1])
    assert [size for _, size, _ in rows] == ["48 B", "48 B", "48 B", "unknown"]


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 "), (950, "950 "), (999_600, "1 M"), (3_700_359_168, "3.7 G"), (1.45e21, "1.45e+03 E")]
)
def test_numbers_in_three_digits(number, shown):
    assert metric(number) == shown
