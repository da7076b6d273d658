"""A state in one file: bit for bit, readable by `safetensors` alone, and refused where it is another."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file

from jaxnn import models, train

LOSS = train.losses.regression()
BATCH = {"inputs": jnp.ones((4, 3)), "targets": jnp.ones((4, 2))}


class Net(nnx.Module):
    def __init__(self, seed, rate=0.5):
        rngs = nnx.Rngs(seed)
        self.dense, self.norm = nnx.Linear(3, 2, rngs=rngs), nnx.BatchNorm(2, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(self.dense(x)))


def state_of(seed=0, tx=None, ema=0.9, **options):
    return train.create_state(Net(seed, **options), tx or optax.adamw(1e-2), jax.random.key(seed), ema=ema)


def test_a_state_comes_back_bit_for_bit():
    state = jax.tree.map(lambda x: x + 1 if jnp.issubdtype(x.dtype, jnp.number) else x, state_of())
    train.save("state.safetensors", state)
    loaded = train.load("state.safetensors", state_of(seed=1))
    assert jax.tree.structure(loaded.params) == jax.tree.structure(state.params)
    for one, other in zip(jax.tree.leaves(loaded), jax.tree.leaves(state), strict=True):
        assert one.dtype == other.dtype
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(one, other)


def test_names_are_those_of_the_state_and_need_safetensors_alone():
    train.save("state.safetensors", state_of(tx=optax.sgd(0.1, momentum=0.9), ema=None))
    arrays = load_file("state.safetensors")
    assert sorted(arrays) == [
        "key",
        *(f"opt_state/0/trace/{name}" for name in ("dense/bias", "dense/kernel", "norm/bias", "norm/scale")),
        *(f"params/{name}" for name in ("dense/bias", "dense/kernel", "norm/bias", "norm/scale")),
        "step",
        "variables/drop/rngs/count",
        "variables/drop/rngs/key",
        "variables/norm/mean",
        "variables/norm/var",
    ]
    np.testing.assert_array_equal(arrays["key"], jax.random.key_data(jax.random.key(0)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"rate": 0.25}, r"which should have model/drop/rate 0.25, not 0.5; build"),
        ({"ema": 0.99}, r"ema_decay 0.99, not 0.9"),
        ({"ema": None}, r"ema/dense/bias nothing, not float32\[2\]"),
        ({"tx": optax.sgd(0.1)}, r"opt_state/0/count nothing, not int32\[\]"),
        ({"tx": optax.adabelief(1e-2)}, "opt_state/0 'ScaleByBeliefState', not 'ScaleByAdamState'; build"),
        ({"tx": optax.nadamw(1e-2, weight_decay=0.0)}, None),
    ],
    ids=["rate", "decay", "no average", "sgd", "adabelief", "same arrays"],
)
def test_another_state_is_named(other, message):
    train.save("state.safetensors", state_of())
    if message is None:
        train.load("state.safetensors", state_of(**other))
        return
    with pytest.raises(ValueError, match=message):
        train.load("state.safetensors", state_of(**other))


def test_modes_are_not_compared_and_any_pytree_serves():
    model = Net(0)
    model.eval()
    train.save("state.safetensors", train.create_state(model, optax.sgd(0.1), jax.random.key(0)))
    train.load("state.safetensors", train.create_state(Net(1), optax.sgd(0.1), jax.random.key(0)))
    loaded = train.load("state.safetensors", state_of(tx=optax.sgd(0.1), ema=None))
    assert not any(leaf.committed for leaf in jax.tree.leaves(loaded))  # else a step would be compiled again
    tree = {"keys": jax.random.split(jax.random.key(0), 3), "old": jax.random.PRNGKey(1), "x": [np.ones(2), 3.0]}
    train.save("tree.safetensors", tree)
    loaded = train.load("tree.safetensors", tree)
    np.testing.assert_array_equal(*(jax.random.key_data(each["keys"]) for each in (loaded, tree)))
    with pytest.raises(ValueError, match=r"keys key<fry>\[2\], not key<fry>\[3\]"):
        train.load("tree.safetensors", {**tree, "keys": tree["keys"][:2]})
    with pytest.raises(ValueError, match="keys key<rbg>"):
        train.load("tree.safetensors", {**tree, "keys": jax.random.split(jax.random.key(0, impl="rbg"), 3)})


@pytest.mark.skipif(jax.device_count() < 4, reason="needs four devices")
def test_shardings_are_those_of_the_state_that_is_given():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(jnp.arange(8.0), jax.sharding.NamedSharding(mesh, jax.P("x")))
    train.save("tree.safetensors", {"x": sharded})
    loaded = train.load("tree.safetensors", {"x": sharded})["x"]
    assert loaded.sharding == sharded.sharding
    np.testing.assert_array_equal(loaded, np.arange(8.0))
    assert train.load("tree.safetensors", {"x": jnp.zeros(8)})["x"].sharding == jnp.zeros(8).sharding


def test_a_state_that_was_donated_is_named():
    state = train.create_state(models.MLP((3, 2), rngs=nnx.Rngs(0)), optax.sgd(0.1), jax.random.key(0))
    state.step.delete()
    with pytest.raises(ValueError, match="state: expected arrays that are still there"):
        train.save("state.safetensors", state)
