import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from jaxnn import inspect

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(7, 3))


def predict(tokens, lengths):
    """Logits that depend on each token, its place and its neighbour; padding counts nothing."""
    inside = np.arange(tokens.shape[1]) < np.asarray(lengths)[:, None]
    each = jnp.asarray(TABLE, jnp.float32)[tokens] * np.arange(1, tokens.shape[1] + 1, dtype=np.float32)[None, :, None]
    both = (each + jnp.roll(each, 1, axis=1) * each) * inside[..., None].astype(np.float32)
    return both.sum(1)


def test_contributions_are_the_definition_token_by_token():
    tokens, lengths = RNG.integers(2, 7, (4, 5)), np.array([5, 3, 1, 0])
    got = inspect.occlusion(predict, tokens, lengths, replacement=1)
    whole = log_softmax(np.asarray(predict(tokens, lengths), np.float64), axis=-1)
    for row, length in enumerate(lengths):
        answer = whole[row].argmax()
        for place in range(5):
            without = tokens[row : row + 1].copy()
            without[0, place] = 1
            left = log_softmax(np.asarray(predict(without, lengths[row : row + 1]), np.float64), axis=-1)[0, answer]
            expected = whole[row, answer] - left if place < length else 0
            np.testing.assert_allclose(got[row, place], expected, rtol=1e-4, atol=1e-5)


def test_other_axes_are_named():
    with pytest.raises(ValueError, match=r"tokens: expected \(texts, time\), got shape \(3,\)"):
        inspect.occlusion(predict, np.zeros(3, int), np.zeros(3, int), replacement=1)
