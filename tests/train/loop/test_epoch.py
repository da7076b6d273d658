import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn import train
from jaxnn.train.step import augment, batching
from tests.train.toys import MLP, ConvNet, blobs, copy, equal, pictures


@settings(max_examples=25, deadline=None, derandomize=True)
@given(n=st.integers(1, 20), batch_size=st.integers(1, 9) | st.just(50))
def test_batches_cover_every_example_once(n, batch_size):
    steps = batching.steps(n, batch_size)
    assert (steps - 1) * batch_size < n <= steps * batch_size
    seen = np.zeros(n)
    for number in range(steps):
        positions, weights = batching.positions(jnp.int32(number), n, batch_size)
        weights = np.ones(batch_size) if weights is None else weights
        assert positions.shape == (batch_size,)
        np.add.at(seen, np.asarray(positions), np.asarray(weights))
    assert (seen == 1).all()


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (13, 4), (3, 8), (1, 1)])
def test_every_example_is_seen_once_an_epoch_in_a_new_order(n, batch_size):
    """Each example adds its own gradient to its own parameter: what was seen can be read off."""

    def loss_fn(w, batch, key):
        return w[batch], {"index": batch}

    def step(state, batch, weights):
        state, metrics = inner(state, batch, weights)
        return state, metrics | {"batch": batch, "weights": jnp.ones(batch_size) if weights is None else weights}

    inner = train.make_step(loss_fn)
    state = train.create_state(jnp.zeros(n), optax.sgd(1.0), jax.random.key(0))
    epoch = train.make_epoch(step, batch_size=batch_size)
    orders = []
    for _ in range(2):
        state, metrics = epoch(state, jnp.arange(n))
        seen = metrics["batch"].ravel()[np.asarray(metrics["weights"].ravel()) == 1]
        orders.append(seen.tolist())
        assert sorted(orders[-1]) == list(range(n))
        assert float(metrics["examples"].sum()) == n
    # A mean over k examples gives each 1/k.
    steps = -(-n // batch_size)
    last = n - (steps - 1) * batch_size
    share = sorted([1 / batch_size] * (n - last) + [1 / last] * last)
    first_epoch = train.create_state(jnp.zeros(n), optax.sgd(1.0), jax.random.key(0))
    first_epoch, _ = epoch(first_epoch, jnp.arange(n))
    np.testing.assert_allclose(sorted(-np.asarray(first_epoch.params)), share, rtol=1e-6)
    if n > 3:
        assert orders[0] != orders[1]


@pytest.mark.parametrize("n", [16, 13])
def test_an_epoch_equals_the_loop_of_its_steps(n):
    """With batch normalisation, dropout and augmentation; keys and order to the bit, sums to rounding."""
    data, batch_size = pictures(n), 8
    preprocess = train.image_preprocess(
        augmentation=augment.compose(augment.random_flip, lambda k, x: augment.random_shift(k, x, 2))
    )
    step = train.make_step(train.losses.classification(), preprocess=preprocess)
    start = train.create_state(ConvNet(), optax.adam(1e-2), jax.random.key(3))
    whole, looped = copy(start), start
    epoch = train.make_epoch(step, batch_size=batch_size)
    for number in range(2):
        whole, metrics = epoch(whole, data)
        order = np.asarray(train.loop.epoch_order(looped.key, number, n))
        padded = np.resize(order, (-(-n // batch_size), batch_size))
        losses = []
        for row, index in enumerate(padded):
            weights = (np.arange(batch_size) + row * batch_size < n).astype(np.float32)
            batch = jax.tree.map(lambda x, index=index: x[index], data)
            looped, one = step(looped, batch, None if n % batch_size == 0 else weights)
            losses.append(one["loss"])
        np.testing.assert_allclose(metrics["loss"], np.stack(losses), rtol=1e-5)
    assert equal(whole.step, looped.step)
    assert equal(whole.variables["drops"], looped.variables["drops"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), whole.params, looped.params)


def test_an_epoch_taken_up_again_repeats_itself():
    data, epoch = blobs(20), train.make_epoch(train.make_step(train.losses.classification()), batch_size=8)
    state = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    state, _ = epoch(state, data)
    saved = jax.tree.map(np.asarray, (state.params, state.opt_state))
    straight, _ = epoch(state, data)
    fresh = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    params, opt_state = jax.tree.map(jnp.asarray, saved)
    resumed, _ = epoch(fresh.replace(params=params, opt_state=opt_state, step=jnp.int32(3)), data)
    assert equal(straight, resumed)


def test_the_state_is_donated_and_the_data_is_not():
    state = train.create_state(MLP(), optax.adam(1e-2), jax.random.key(0))
    data = jax.device_put(blobs(20))
    train.make_epoch(train.make_step(train.losses.classification()), batch_size=8)(state, data)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert not data.images.is_deleted()


def test_the_data_set_is_not_copied_and_stays_uint8():
    data = pictures(4000)
    preprocess = train.image_preprocess()
    state = train.create_state(ConvNet(), optax.sgd(0.1), jax.random.key(0))
    epoch = train.make_epoch(train.make_step(train.losses.classification(), preprocess=preprocess), batch_size=8)
    memory = epoch.lower(state, data).compile().memory_analysis()
    assert memory.temp_size_in_bytes < data.images.nbytes


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True])
def test_a_wrong_batch_size_is_named(batch_size):
    with pytest.raises(ValueError, match="batch_size: expected a whole number of at least 1"):
        train.make_epoch(train.make_step(train.losses.classification()), batch_size=batch_size)


def test_parts_of_an_epoch_in_float64():
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(6, 2)), rng.integers(0, 3, 6), rng.normal(size=(2, 3))
    with jax.enable_x64(True):
        loss_fn = train.losses.classification(apply_fn=lambda w, batch: batch[0] @ w)
        step = train.make_step(loss_fn, penalty=train.losses.l2(1.0))
        state = train.create_state(jnp.asarray(w), optax.sgd(0.1), jax.random.key(0))
        state, metrics = train.make_epoch(step, batch_size=6, chunk=2)(state, (x, y))
        assert state.params.dtype == jnp.float64
    np.testing.assert_allclose(metrics["penalty"][0], np.sum(w**2), rtol=1e-14)
    share = np.exp(x @ w) / np.exp(x @ w).sum(1, keepdims=True) - np.eye(3)[y]
    np.testing.assert_allclose(metrics["grad_norm"][0], np.linalg.norm(x.T @ share / 6 + 2 * w), rtol=1e-13)


def test_computed_batches_need_no_batch_size_and_arrays_do():
    def loss_fn(w, batch, key):
        return (w - batch) ** 2, {}

    epoch = train.make_epoch(train.make_step(loss_fn))
    state = train.create_state(jnp.zeros(()), optax.sgd(0.1), jax.random.key(0))
    _, metrics = epoch(copy(state), train.Generated(lambda key: jax.random.normal(key, (5,)), steps=3))
    assert metrics["examples"].tolist() == [5, 5, 5]
    with pytest.raises(ValueError, match="batch_size: expected examples a step for data in arrays, got None"):
        epoch(state, jnp.zeros(10))


def test_no_examples_are_an_error():
    state = train.create_state(MLP(), optax.sgd(0.1), jax.random.key(0))
    epoch = train.make_epoch(train.make_step(train.losses.classification()), batch_size=8)
    with pytest.raises(ValueError, match="data: expected at least one example, got none"):
        epoch(state, blobs(0))
    with pytest.raises(ValueError, match=r"data: .* got no array"):
        epoch(state, ())
