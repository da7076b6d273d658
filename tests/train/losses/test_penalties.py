import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import train


def test_l2_leaves_biases_out_and_has_the_gradient_it_says():
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 3, 2, 4)), "bias": rng.normal(size=4), "scale": np.array(3.0)}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    penalty = train.losses.l2(0.01)
    np.testing.assert_allclose(penalty(params), 0.01 * np.sum(np.square(params["kernel"])), rtol=1e-5)
    gradient = jax.grad(penalty)(params)
    np.testing.assert_allclose(gradient["kernel"], 0.02 * params["kernel"], rtol=1e-5)
    assert not gradient["bias"].any()
    assert not gradient["scale"].any()
    assert float(train.losses.l2(1.0)({"bias": jnp.ones(3)})) == 0
    for scale in (-1.0, np.nan, params):
        with pytest.raises(ValueError, match="scale: expected a finite number that is not negative"):
            train.losses.l2(scale)


def test_the_mask_fits_optax():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    tx = optax.masked(optax.set_to_zero(), train.losses.weight_mask)
    updates, _ = tx.update(params, tx.init(params), params)
    assert not updates["kernel"].any()
    assert updates["bias"].all()
