import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import train
from tests.train.toys import MLP, ConvNet, equal


def test_a_module_is_split_into_parameters_and_the_rest():
    state = train.create_state(ConvNet(), optax.adam(1e-3), jax.random.key(0))
    assert state.params["conv"]["kernel"].shape == (3, 3, 1, 4)
    assert set(state.params) == {"conv", "norm", "out"}
    assert set(state.variables) == {"norm", "drops"}
    assert int(state.step) == 0
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


def test_the_model_comes_back_the_same():
    model = MLP()
    x = jax.random.normal(jax.random.key(1), (4, 6))
    state = train.create_state(model, optax.adam(1e-3), jax.random.key(0))
    np.testing.assert_array_equal(state.model()(x), model(x))


def test_a_functional_model_is_its_own_pytree():
    params = {"w": jnp.ones((2, 3)), "b": (jnp.zeros(3),)}
    state = train.create_state(params, optax.sgd(0.1), jax.random.key(0))
    assert equal(state.model(), params)
    assert state.variables == {}
    assert state.graphdef is None


def test_the_callers_model_and_key_survive_donation():
    model, key = MLP(), jax.random.key(0)
    state = train.create_state(model, optax.sgd(0.1), key)
    donated = jax.jit(lambda s: s, donate_argnums=0)
    donated(state)
    assert jax.tree.leaves(state.params)[0].is_deleted()
    assert np.isfinite(model.hidden.kernel[...]).all()
    jax.random.normal(key)


def test_an_optimiser_that_keeps_the_parameters_can_be_donated():
    state = train.create_state(jnp.ones(3), optax.contrib.schedule_free_sgd(0.1), jax.random.key(0))
    jax.jit(lambda s: s, donate_argnums=0)(state)


@pytest.mark.parametrize("key", [0, None, np.zeros(2, np.uint32), jax.random.split(jax.random.key(0), 3)])
def test_what_is_not_one_key_is_named(key):
    with pytest.raises(ValueError, match=r"key: expected one random key.*jax\.random\.key"):
        train.create_state(jnp.ones(3), optax.sgd(0.1), key)


def test_raw_keys_work():
    state = train.create_state(jnp.ones(3), optax.sgd(0.1), jax.random.PRNGKey(0))
    assert state.key.shape == (2,)


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="model: expected parameters to train, got none"):
        train.create_state(nnx.Dropout(0.5, rngs=nnx.Rngs(0)), optax.sgd(0.1), jax.random.key(0))


def test_integer_parameters_are_named():
    with pytest.raises(ValueError, match=r"model: expected floating-point parameters, got int32 at \['n'\]"):
        train.create_state({"n": jnp.arange(3), "w": jnp.ones(2)}, optax.sgd(0.1), jax.random.key(0))
