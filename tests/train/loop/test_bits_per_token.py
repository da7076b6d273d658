"""Bits per token, compared with the log-probabilities of the whole text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnn import models, train


@pytest.mark.parametrize(("pieces", "chunk"), [(1, 256), (1, 7), (3, 10), (4, 256)])
def test_bits_per_token_counts_every_token_once(pieces, chunk):
    model = models.LanguageModel(5, embed_features=4, hidden_features=8, rngs=nnx.Rngs(0))
    text, before = jnp.asarray(np.random.default_rng(0).integers(0, 5, 101), jnp.int32), jnp.int32(3)
    got = train.loop.bits_per_token(model, text, before, pieces=pieces, chunk=chunk)
    inputs = jnp.concatenate([before[None], text[:-1]])
    length = -(-101 // (pieces * chunk)) * chunk
    total = 0.0
    for start in range(0, 101, length):  # piece by piece, each from zero
        log_probs = jax.nn.log_softmax(model(inputs[start : start + length])[0])
        total -= float(jnp.take_along_axis(log_probs, text[start : start + length, None], axis=-1).sum())
    assert float(got) == pytest.approx(total / 101 / np.log(2), rel=1e-5)
