"""A second compile of a step or an epoch names the argument that caused it."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import train
from jaxnn.train.step import RetraceWarning
from tests.train.toys import quadratic


def batch(n, dtype=np.float32):
    return {"x": np.ones((n, 3), dtype), "y": np.zeros(n, np.float32)}


def loss_fn(w, batch, key):
    x = jnp.asarray(batch["x"], jnp.float32)
    return quadratic(w, (x, batch["y"]), key)


def state(features=3):
    return train.create_state(jnp.ones(features), optax.sgd(0.01), jax.random.key(0))


def sharded(x, *axes):
    return jax.device_put(x, NamedSharding(Mesh(np.array(jax.devices()[:2]), ("d",)), P(*axes)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: batch(4), r"batch\['x'\] was float32 \(8, 3\) and is float32 \(4, 3\), batch\['y'\].*; .*one shape"),
        (lambda: batch(8, np.int8), r"batch\['x'\] was float32 \(8, 3\) and is int8 \(8, 3\); convert it once"),
    ],
    ids=["shape", "dtype"],
)
def test_a_step_names_what_changed_once(change, message):
    step = train.make_step(loss_fn)
    trained, _ = step(state(), batch(8))
    trained, _ = step(trained, batch(8))
    with pytest.warns(RetraceWarning, match=rf"step was compiled again: {message}") as told:
        trained, _ = step(trained, change())
    assert told[0].filename == __file__
    step(trained, batch(2))


def test_a_weak_type_is_named():
    step = train.jit(lambda state, scale, x: state + x * scale, warn_of_retraces=True)
    x = jnp.ones(4)
    step(jnp.zeros(4), jnp.ones(4), x)
    with pytest.warns(RetraceWarning, match=r"scale was float32 \(4,\) of its own type and is .* of weak type; give"):
        step(jnp.zeros(4), jnp.broadcast_to(jnp.asarray(2.0), (4,)), x)


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
def test_a_sharding_is_named():
    x = jnp.ones(4)
    step = train.jit(lambda state, x: state + x, warn_of_retraces=True)
    step(sharded(x), sharded(x))
    with pytest.warns(RetraceWarning, match=r"x was .* on NamedSharding.* and is .*'d'.*; place it once"):
        step(sharded(x), sharded(x, "d"))


def test_an_epoch_names_what_changed():
    epoch = train.make_epoch(train.make_step(loss_fn), batch_size=4)
    trained, _ = epoch(state(), batch(8))
    with pytest.warns(RetraceWarning, match=r"epoch was compiled again: data\['x'\] was .*\(8, 3\) and is .*\(12, 3\)"):
        epoch(trained, batch(12))


def test_other_uses_are_no_reason():
    """A first call, weights or none, another model, arrays of the host or of the device, a program around it."""
    step = train.make_step(loss_fn)
    trained, _ = step(state(), batch(8))
    trained, _ = step(trained, jax.device_put(batch(8)))
    step(trained, batch(8), np.ones(8, np.float32))
    step(state(2), {"x": np.ones((5, 2), np.float32), "y": np.zeros(5, np.float32)})
    jax.jit(step)(state(), batch(6))
    step.lower(state(), batch(7)).compile()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(state(), batch(8))
