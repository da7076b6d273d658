"""Optimisers of Optax that are more than a rule for the gradient, through `fit`; docs/optimisers.md has Muon."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import train
from tests.train.toys import ConvNet, pictures, quadratic

LOSS = train.losses.classification()
OPTIONS = {"epochs": 2, "batch_size": 8, "progress": False}


def regression(n=32):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)).astype(np.float32), rng.normal(size=n).astype(np.float32)


def start(model, tx):
    return train.create_state(model, tx, jax.random.key(0))


def test_two_small_steps_of_multi_steps_are_one_large_step():
    """The order of an epoch does not depend on the batch size, so both see the same examples."""
    points = regression()
    small, _ = train.fit(
        start(jnp.ones(2), optax.MultiSteps(optax.adam(0.1), 2)), points, quadratic, epochs=2, batch_size=4,
        progress=False,
    )  # fmt: skip
    large, _ = train.fit(start(jnp.ones(2), optax.adam(0.1)), points, quadratic, **OPTIONS)
    assert int(small.step) == 2 * int(large.step)
    assert int(small.opt_state.gradient_step) == int(large.step)
    np.testing.assert_allclose(small.params, large.params, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_plateau_lowers_the_rate(steps):
    """With a gradient of zero nothing improves after the first value: half of it after every two further ones."""
    tx = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(factor=0.5, patience=2))
    tx = tx if steps == 1 else optax.MultiSteps(tx, steps)  # which passes the loss on

    def loss_fn(w, batch, key):
        return 0 * w[0] * batch + 1, {}

    state, _ = train.fit(start(jnp.ones(2), tx), np.ones(40 * steps, np.float32), loss_fn, **OPTIONS)
    inner = state.opt_state if steps == 1 else state.opt_state.inner_opt_state
    assert float(inner[1].scale) == 0.5 ** ((10 - 1) // 2)


@pytest.mark.parametrize("opaque", [False, True])
def test_sharpness_aware_minimisation_descends_from_where_the_loss_is_higher(opaque):
    """Foret et al., 2021: the gradient at `w + rho g / |g|`; opaque in one step, otherwise in two on the same batch."""
    x, y = regression(8)
    w = np.array([0.5, -1.0])
    gradient = lambda w: 2 * x.T.astype(float) @ (x @ w - y) / len(x)  # noqa: E731
    higher = w + 0.05 * gradient(w) / np.linalg.norm(gradient(w))
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    state = start(jnp.asarray(w, jnp.float32), optax.contrib.sam(optax.sgd(0.1), ascent, opaque_mode=opaque))
    step = train.make_step(quadratic)
    for _ in range(1 if opaque else 2):
        state, _ = step(state, (x, y))
    np.testing.assert_allclose(state.params, w - 0.1 * gradient(higher), rtol=1e-5)


def spoiled(n=24):
    """Pictures of floats, of which one is not finite."""
    points = pictures(n)
    points = points._replace(images=points.images.astype(np.float32) / 255)
    points.images[3, 0, 0] = np.nan
    return points


@pytest.mark.parametrize(
    "tx",
    [
        optax.apply_if_finite(optax.adam(0.05), 3),
        optax.MultiSteps(optax.adam(0.05), 1, should_skip_update_fn=optax.skip_not_finite),
    ],
    ids=["apply_if_finite", "MultiSteps"],
)
def test_a_batch_whose_gradient_is_not_finite_is_left_out_and_training_continues(tx):
    state, history = train.fit(start(ConvNet(), tx), spoiled(), LOSS, **OPTIONS)
    assert all(np.isfinite(value) for record in history for value in record.values())
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((state.params, state.variables["norm"])))
    assert [record["step"] for record in history] == [3, 6]
    step = train.make_step(LOSS)
    state, metrics = step(state, jax.tree.map(lambda x: x[:8], spoiled()))
    assert {name: float(value) for name, value in metrics.items()} == dict.fromkeys(metrics, 0.0)
    _, metrics = step(state, jax.tree.map(lambda x: x[8:16], spoiled()))
    assert float(metrics["examples"]) == 8


def test_an_optimiser_that_gave_up_lets_training_stop():
    tx = optax.apply_if_finite(optax.sgd(0.05), 0)
    with pytest.raises(train.loop.NonFiniteLossError, match=r"holds NaN or infinity, the first .images in example 3"):
        train.fit(start(ConvNet(), tx), spoiled(), LOSS, **OPTIONS)
