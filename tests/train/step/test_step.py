import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnn import train
from tests.train.toys import MLP, Batch, ConvNet, blobs, copy, pictures, quadratic


def regression(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)).astype(np.float32), rng.normal(size=n).astype(np.float32)


def test_one_step_equals_gradient_descent_in_numpy():
    x, y = regression(8)
    w = np.random.default_rng(1).normal(size=4).astype(np.float32)
    state = train.create_state(jnp.asarray(w), optax.sgd(0.1), jax.random.key(0))
    state, metrics = train.make_step(quadratic)(state, (x, y))
    x, y, w = (a.astype(np.float64) for a in (x, y, w))
    residual = x @ w - y
    gradient = 2 * x.T @ residual / len(x)
    np.testing.assert_allclose(state.params, w - 0.1 * gradient, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.mean(residual**2), rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(gradient), rtol=1e-5)
    assert float(metrics["examples"]) == 8
    assert int(state.step) == 1


def test_complex_parameters_descend():
    """JAX's gradient of a real loss by a complex number is the conjugate of the direction in which the loss grows."""
    state = train.create_state(jnp.zeros((), jnp.complex64), optax.sgd(0.1), jax.random.key(0))
    state, _ = train.make_step(lambda w, batch, key: (jnp.abs(w - batch) ** 2, {}))(state, jnp.full(4, 1 + 2j))
    np.testing.assert_allclose(state.params, 0.2 * (1 + 2j), rtol=1e-6)


def test_weights_mask_exactly():
    x, y = regression(8)
    state = train.create_state(jnp.ones(4), optax.sgd(0.1), jax.random.key(0))
    step = train.make_step(quadratic)
    short, short_metrics = step(copy(state), (x[:5], y[:5]))
    x[5:], y[5:] = 1e6, -1e6
    weights = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
    masked, metrics = step(state, (x, y), weights)
    np.testing.assert_allclose(masked.params, short.params, rtol=1e-6)
    for name in short_metrics:
        np.testing.assert_allclose(metrics[name], short_metrics[name], rtol=1e-6, err_msg=name)


def test_a_nan_of_weight_zero_does_not_count():
    state = train.create_state(jnp.float32(1), optax.sgd(0.1), jax.random.key(0))

    def loss_fn(w, batch, key):
        return w * batch, {"value": batch}

    _, metrics = train.make_step(loss_fn)(state, jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 1.0, 0.0]))
    assert float(metrics["value"]) == 2
    assert float(metrics["loss"]) == 2


def test_weakly_typed_parameters_do_not_compile_twice():
    traces = []

    def loss_fn(w, batch, key):
        traces.append(1)
        return (w - batch) ** 2, {}

    state = train.create_state({"w": jnp.asarray(1.0)}["w"], optax.sgd(0.1), jax.random.key(0))
    step = train.make_step(loss_fn)
    for _ in range(3):
        state, _ = step(state, jnp.ones(2))
    assert len(traces) == 1


def test_batch_statistics_follow_the_data():
    state = train.create_state(ConvNet(), optax.sgd(0.0), jax.random.key(0))
    before = np.asarray(state.variables["norm"]["mean"])
    step = train.make_step(train.losses.classification(), preprocess=train.image_preprocess())
    batch = pictures(16)
    model = state.model()
    state, _ = step(state, batch)
    activations = model.conv(batch.images.astype(np.float32) / 255)
    expected = 0.99 * before + 0.01 * np.asarray(activations).mean((0, 1, 2))
    np.testing.assert_allclose(state.variables["norm"]["mean"], expected, rtol=1e-4, atol=1e-6)


def test_another_network_in_the_batch_may_be_in_training_mode():
    def loss_fn(w, batch, key):
        network, noise = batch
        return jnp.mean((network(noise) @ w) ** 2), {}  # the call changes its batch statistics

    state = train.create_state(jnp.ones(2), optax.sgd(0.1), jax.random.key(0))
    batch = nnx.BatchNorm(2, rngs=nnx.Rngs(0)), jnp.array([[1.0, 0.0], [3.0, 4.0]])
    _, metrics = train.make_step(loss_fn, reduction="batch")(state, batch)
    np.testing.assert_allclose(metrics["loss"], 4, rtol=1e-4)  # normalised to -1 and 1


def test_gradients_through_steps_are_those_of_a_compiled_program():
    step = train.make_step(lambda w, batch, key: ((batch - w) ** 2, {}))
    tx = optax.inject_hyperparams(optax.sgd)(0.1)

    def after(rate):
        state = train.create_state(jnp.ones(()), tx, jax.random.key(0))
        state.opt_state.hyperparams["learning_rate"] = rate
        for _ in range(3):
            state, _ = step(state, jnp.zeros(2))
        return state.params  # (1 - 2 rate)**3

    for grad in (jax.grad(after), jax.jit(jax.grad(after))):
        np.testing.assert_allclose(grad(jnp.float32(0.1)), -6 * 0.8**2, rtol=1e-6)


def test_dropout_draws_anew_each_step_and_apart_in_each_layer():
    class Drops(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.w = nnx.Param(jnp.ones(50))
            self.first, self.second = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def loss_fn(model, batch, key):
        first, second = model.first(model.w[...]), model.second(model.w[...])
        masks = jnp.stack([first, second])
        code = (masks != 0).astype(jnp.float32) @ jnp.asarray(2.0 ** np.arange(50) % 9973, jnp.float32)
        return jnp.sum(masks) * batch, {"first": code[0] * batch, "second": code[1] * batch}

    state = train.create_state(Drops(), optax.sgd(0.0), jax.random.key(0))
    step = train.make_step(loss_fn)
    codes = []
    for _ in range(3):
        state, metrics = step(state, jnp.ones(1))
        codes += [float(metrics["first"]), float(metrics["second"])]
    assert len(set(codes)) == 6


def test_keys_follow_from_seed_and_step_only():
    def loss_fn(w, batch, key):
        return w * batch, {"draw": jax.random.uniform(key, batch.shape)}

    def preprocess(key, batch):
        return batch + jax.random.uniform(key, batch.shape)

    step = train.make_step(loss_fn, preprocess=preprocess)

    def draws(seed, steps):
        state = train.create_state(jnp.float32(1), optax.sgd(0.0), jax.random.key(seed))
        state = state.replace(step=jnp.int32(steps[0]))
        out = []
        for _ in steps:
            state, metrics = step(state, jnp.zeros(4))
            out.append((float(metrics["draw"]), float(metrics["loss"])))
        return out

    whole = draws(0, range(4))
    assert len({value for pair in whole for value in pair}) == 8
    assert draws(0, range(2, 4)) == whole[2:]
    assert draws(1, range(4)) != whole


def test_the_penalty_is_added_and_told_apart():
    params = {"kernel": jnp.array([[1.0, 2.0]]), "bias": jnp.array([3.0])}

    def loss_fn(p, batch, key):
        return 0 * p["bias"][0] * batch + 5, {}

    state = train.create_state(params, optax.sgd(1.0), jax.random.key(0))
    state, metrics = train.make_step(loss_fn, penalty=train.losses.l2(0.1))(state, jnp.ones(2))
    assert float(metrics["loss"]) == 5
    np.testing.assert_allclose(metrics["penalty"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(state.params["kernel"], [[0.8, 1.6]], rtol=1e-6)
    np.testing.assert_allclose(state.params["bias"], [3.0])


def test_optimisers_that_want_more_than_the_gradient_get_it():
    x, y = regression(16)
    state = train.create_state(jnp.zeros(4), optax.lbfgs(), jax.random.key(0))
    step = train.make_step(quadratic)
    state, first = step(state, (x, y))
    for _ in range(5):
        state, last = step(state, (x, y))
    assert float(last["loss"]) < float(first["loss"])


def test_half_precision_models_keep_their_dtype_and_float32_metrics():
    class Half(MLP):
        def __call__(self, x):
            return super().__call__(x.astype(jnp.bfloat16))

    model = Half()
    for layer in (model.hidden, model.out):
        layer.dtype = jnp.bfloat16
    nnx.update(model, jax.tree.map(lambda x: x.astype(jnp.bfloat16), nnx.state(model)))
    state = train.create_state(model, optax.adam(1e-2), jax.random.key(0))
    state, metrics = train.make_step(train.losses.classification(), penalty=train.losses.l2(1e-4))(state, blobs(8))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.bfloat16)}
    assert {value.dtype for value in metrics.values()} == {jnp.dtype(jnp.float32)}


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_sown_values_are_outputs_not_state():
    class Sows(MLP):
        def __call__(self, x):
            y = super().__call__(x)
            self.sow(nnx.Intermediate, "logits", y)
            return y

    state = train.create_state(Sows(), optax.sgd(0.1), jax.random.key(0))
    step = train.make_step(train.losses.classification())
    state, _ = step(state, blobs(8))
    step(state, blobs(8))


@pytest.mark.parametrize("apart", [None, nnx.PathContains("bias")])
def test_parameters_assigned_in_the_call_are_kept_as_in_flax(apart):
    """`nnx.WeightNorm` writes normalised weights back; they were lost without a word."""
    x, y = regression(8)
    model = nnx.WeightNorm(nnx.Linear(4, 1, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    state = train.create_state(model, optax.adamw(0.1), jax.random.key(0), wrt=apart)

    def loss_fn(model, batch, key):
        return (model(batch[0])[:, 0] - batch[1]) ** 2, {}

    step, losses = train.make_step(loss_fn), []
    for _ in range(3):
        state, metrics = step(state, (x, y))
        losses.append(metrics["loss"])
    wrt = nnx.Param if apart is None else nnx.All(nnx.Param, apart)
    optimizer, of_flax = nnx.Optimizer(model, optax.adamw(0.1), wrt=wrt), []
    loss_and_grads = nnx.value_and_grad(lambda m: loss_fn(m, (x, y), None)[0].mean(), argnums=nnx.DiffState(0, wrt))
    for _ in range(3):
        loss, grads = loss_and_grads(model)
        with jax.numpy_dtype_promotion("standard"):
            optimizer.update(model, grads)
        of_flax.append(loss)
    np.testing.assert_allclose(losses, of_flax, rtol=1e-5)
    chex.assert_trees_all_close(nnx.state(state.model()), nnx.state(model), rtol=1e-5)


@pytest.mark.parametrize("kind", [nnx.BatchStat, nnx.Param])
def test_a_variable_born_in_the_call_is_named(kind):
    class Grows(MLP):
        def __call__(self, x):
            self.seen = kind(x.mean())
            return super().__call__(x)

    state = train.create_state(Grows(), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match=r"keep names, shapes and dtypes in a step, \{\}, got .*seen.*__init__"):
        train.make_step(train.losses.classification())(state, blobs(8))


def test_the_step_is_pure_under_vmap():
    states = jax.vmap(lambda key: train.create_state(nnx.Linear(6, 3, rngs=nnx.Rngs(key)), optax.adam(1e-2), key))(
        jax.random.split(jax.random.key(0), 3)
    )
    step, batch = train.make_step(train.losses.classification()), jax.tree.map(jnp.asarray, blobs(8))
    one, _ = step(jax.tree.map(lambda x: x[1], states), batch)
    many, metrics = jax.jit(jax.vmap(step, in_axes=(0, None)))(states, batch)
    assert metrics["loss"].shape == (3,)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5, atol=1e-6), many.params, one.params)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda x: (x, {"loss": x}), r"expected metrics not named .*, got \['loss'\]"),
        (lambda x: (x, x), "a dict of metrics"),
        (lambda x: (x, {3: x}), "loss_fn: expected names of metrics that are strings, got 3; write '3'"),
        (lambda x: (x, {"a": x[:2]}), r"loss_fn: expected a metric 'a' for each example, shape \(4,\), got \(2,\)"),
    ],
)
def test_wrong_metrics_are_named(result, message):
    state = train.create_state(jnp.float32(1), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        train.make_step(lambda w, batch, key: result(w * batch))(state, jnp.ones(4))


@pytest.mark.parametrize("dtype", [jnp.int32, bool, jnp.complex64])
def test_losses_without_a_gradient_are_refused(dtype):
    """Rounded losses trained nothing; of complex ones the real part was trained."""
    state = train.create_state(jnp.ones(3), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match=rf"loss_fn: expected losses that are floats, got {jnp.dtype(dtype)}"):
        train.make_step(lambda w, b, key: ((b * w).astype(dtype), {}))(state, jnp.ones(3))


def test_updates_of_another_shape_are_refused():
    """`optax.contrib.dpsgd` sums over the first axis, that of examples; Optax would broadcast the sum."""
    tx = optax.stateless(lambda updates, params: updates.sum(0))
    state = train.create_state(jnp.ones(3), tx, jax.random.key(0))
    with pytest.raises(ValueError, match=r"tx: expected updates of the shapes of parameters, \(3,\), got \(\); take"):
        train.make_step(lambda w, b, key: (b * w, {}))(state, jnp.ones(3))


def test_wrong_weights_are_named():
    state = train.create_state(jnp.float32(1), optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match=r"weights: .* shape \(4,\), got \(3,\)"):
        train.make_step(lambda w, batch, key: (w * batch, {}))(state, jnp.ones(4), jnp.ones(3))


def test_a_penalty_that_is_no_scalar_is_named():
    state = train.create_state(jnp.ones(3), optax.sgd(0.1), jax.random.key(0))
    step = train.make_step(lambda w, batch, key: (w[0] * batch, {}), penalty=jnp.square)
    with pytest.raises(ValueError, match=r"penalty: expected a scalar, shape \(\), got \(3,\)"):
        step(state, jnp.ones(4))


def test_parameters_grouped_in_a_named_tuple_train():
    class Grouped(nnx.Module):
        def __init__(self):
            self.group = nnx.Param(Batch(jnp.ones((6, 3)), jnp.zeros(3)))

        def __call__(self, x):
            weights, bias = self.group.get_value()
            return x @ weights + bias[None]

    state = train.create_state(Grouped(), optax.adam(1e-2), jax.random.key(0))
    state, _ = train.make_step(train.losses.classification())(state, blobs(8))
    assert state.params["group"].images.shape == (6, 3)
    assert state.model()(jnp.ones((2, 6))).shape == (2, 3)


def test_unequal_lengths_are_named():
    state = train.create_state(MLP(), optax.sgd(0.1), jax.random.key(0))
    batch = Batch(jnp.ones((4, 6)), jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match=r"batch\.images: \(4,\), batch\.labels: \(3,\)"):
        train.make_step(train.losses.classification())(state, batch)


def test_the_module_is_not_touched_in_python_after_the_first_call(monkeypatch):
    state = train.create_state(ConvNet(), optax.adam(1e-3), jax.random.key(0))
    step = train.make_step(train.losses.classification(), preprocess=train.image_preprocess())
    state, _ = step(state, pictures(8))

    def forbidden(*args, **kwargs):
        raise AssertionError("the module was traversed")

    for name in ("merge", "split", "to_pure_dict"):
        assert inspect.isfunction(getattr(nnx, name))
        monkeypatch.setattr(nnx, name, forbidden)
    state, _ = step(state, pictures(8, 1))
    assert int(state.step) == 2
