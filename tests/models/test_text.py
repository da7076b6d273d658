"""The classifier of texts: its weighted mean by hand, and that padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn.models import TextClassifier
from tests.modules.own_cells import learned, named

RNG = np.random.default_rng(0)
TOKENS = jnp.asarray(RNG.integers(0, 9, (3, 6)), jnp.int32)
LENGTHS = np.array([6, 3, 1])


def _model(**options):
    model = TextClassifier(9, 4, embed_features=3, hidden_features=5, **options, rngs=nnx.Rngs(0))
    if model.query is not None:
        model.query[...] = jnp.asarray(RNG.normal(size=model.query.shape), jnp.float32)
    return model


@pytest.mark.parametrize(
    "options",
    [{}, {"pooling": "mean"}, {"bidirectional": False, "kind": "gru"}, {"cell": learned, "layers": 2}],
    ids=named,
)
def test_logits_are_those_of_the_weighted_mean_of_each_text_alone(options):
    model = _model(**options)
    logits, weights = model(TOKENS, lengths=LENGTHS), model.weights(TOKENS, lengths=LENGTHS)
    query = 0.0 if model.query is None else np.asarray(model.query[...], np.float64)
    for row, n in enumerate(LENGTHS):
        outputs = np.asarray(model.layers(model.embed(TOKENS[row, :n])), np.float64)
        scores = np.exp((outputs * query).sum(-1) / np.sqrt(outputs.shape[-1]))
        mean = scores / scores.sum() @ outputs
        expected = mean @ np.asarray(model.dense.kernel[...]) + np.asarray(model.dense.bias[...])
        np.testing.assert_allclose(logits[row], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(weights[row, :n], scores / scores.sum(), rtol=1e-5)
        assert not weights[row, n:].any()


def test_attention_starts_as_the_mean_and_learns():
    model = TextClassifier(9, 4, rngs=nnx.Rngs(0))
    same = TextClassifier(9, 4, pooling="mean", rngs=nnx.Rngs(0))
    np.testing.assert_allclose(model(TOKENS, lengths=LENGTHS), same(TOKENS, lengths=LENGTHS), rtol=1e-6)
    graphdef, params = nnx.split(model)
    gradient = jax.jit(jax.grad(lambda p: nnx.merge(graphdef, p)(TOKENS, lengths=LENGTHS)[:, 0].sum()))(params)
    assert np.abs(gradient["query"][...]).max() > 0


def test_a_text_of_no_tokens_has_the_bias_for_logits():
    model = _model()
    model.dense.bias[...] = jnp.arange(4.0)
    np.testing.assert_array_equal(model(TOKENS[:1], lengths=np.array([0]))[0], jnp.arange(4.0))


def test_another_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling: expected 'attention' or 'mean', got 'max'"):
        _model(pooling="max")
