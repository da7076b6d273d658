"""Every model in half precision: near its values in float32, in the dtype that was chosen, with the parameters' own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import functional as F
from jaxnn import models

MODELS = {
    "MLP": (functools.partial(models.MLP, (6, 5, 3)), (4, 6)),
    "LeNet": (functools.partial(models.LeNet, (4, 4, 2), filters=(3, 4), hidden=5), (4, 4, 4, 2)),
    "LeNet5": (functools.partial(models.LeNet5, (8, 8, 1)), (2, 8, 8, 1)),
    "Cifar10Net": (functools.partial(models.Cifar10Net, (10, 10, 2), filters=(3, 4), hidden=5), (4, 10, 10, 2)),
    "Detector": (functools.partial(models.Detector, 2, 3, width=3, blocks=2), (2, 8, 8, 2)),
    "RowReader": (functools.partial(models.RowReader, (4, 3, 2), hidden=5, dense=6, layers=2), (4, 4, 3, 2)),
    "Transcriber": (functools.partial(models.Transcriber, 3, 4, hidden=5), (4, 6, 3)),
    "Forecaster": (functools.partial(models.Forecaster, 3, 2, hidden=5), (4, 6, 3)),
    "LanguageModel": (functools.partial(models.LanguageModel, 7, embed_features=3, hidden_features=5), (4, 6)),
    "TextClassifier": (functools.partial(models.TextClassifier, 7, 3, embed_features=3, hidden_features=5), (4, 6)),
}
TOKENS = ("LanguageModel", "TextClassifier")
HALF = {"dtype": jnp.bfloat16}


def made(name, **dtypes):
    """The model's structure and parameters that are all at work, the same for every dtype; nothing is compiled."""
    graphdef, params = nnx.split(nnx.eval_shape(lambda: MODELS[name][0](**dtypes, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    return graphdef, jax.tree.map(lambda p: (rng.normal(size=p.shape) / 2).astype(p.dtype), params)


def inputs(name):
    shape, rng = MODELS[name][1], np.random.default_rng(1)
    return rng.integers(0, 7, shape) if name in TOKENS else rng.normal(size=shape).astype(np.float32)


def outputs(model, x):
    y = model(x)
    if isinstance(y, F.BoxMaps):
        return jnp.concatenate(y, axis=-1)
    return y[0] if isinstance(y, tuple) else y


def test_every_model_is_tested():
    assert set(MODELS) == set(models.__all__)


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_is_near_float32_and_trains(name):
    traces = []

    @jax.jit
    def run(params, x):
        traces.append(1)

        def loss(params):
            y = outputs(nnx.merge(graphdef, params), x)
            return jnp.mean(jnp.square(y.astype(jnp.float32))), y

        return jax.value_and_grad(loss, has_aux=True)(params)

    graphdef, params = made(name)
    (_, expected), gradients = run(params, inputs(name))
    graphdef, params = made(name, **HALF)
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    run.clear_cache()
    traces.clear()
    for _ in range(2):
        (_, y), half = run(params, inputs(name))
    assert len(traces) == 1
    assert expected.dtype == jnp.float32
    assert y.dtype == jnp.bfloat16
    size = float(np.abs(expected).max())
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=0.05, atol=0.05 * size)
    for path, gradient in jax.tree.leaves_with_path(half):
        assert gradient.dtype == jnp.float32, path
        assert np.isfinite(gradient).all(), path
    flat, near = (np.concatenate([np.ravel(g) for g in jax.tree.leaves(tree)]) for tree in (gradients, half))
    assert np.linalg.norm(near - flat) < 0.1 * np.linalg.norm(flat)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_in_half_precision(name):
    graphdef, params = made(name, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    y = jax.eval_shape(lambda params, x: outputs(nnx.merge(graphdef, params), x), params, inputs(name))
    assert y.dtype == jnp.bfloat16
