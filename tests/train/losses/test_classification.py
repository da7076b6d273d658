import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import train
from tests.train.toys import Batch


def logits_and_labels(n=7, classes=5, scale=10, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, classes)).astype(np.float32) * scale, rng.integers(0, classes, n)


def softmax_oracle(logits, labels, smoothing):
    z = logits.astype(np.float64)
    q = (1 - smoothing) * np.eye(z.shape[1])[labels] + smoothing / z.shape[1]
    z = z - z.max(1, keepdims=True)
    return np.log(np.exp(z).sum(1)) - (q * z).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_cross_entropy_equals_numpy(smoothing, dtype):
    logits, labels = logits_and_labels()
    loss_fn = train.losses.classification(smoothing)
    losses, metrics = loss_fn(lambda x: x, Batch(jnp.asarray(logits), jnp.asarray(labels, dtype)), None)
    np.testing.assert_allclose(losses, softmax_oracle(logits, labels, smoothing), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(metrics["accuracy"], logits.argmax(1) == labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_huge_logits_give_finite_losses_and_gradients(smoothing):
    def mean(z):
        batch = Batch(z, jnp.array([0, 1]))
        return train.losses.classification(smoothing)(lambda x: x, batch, None)[0].mean()

    value, gradient = jax.value_and_grad(mean)(jnp.array([[-1e4, 1e4], [-1e4, 1e4]]))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_half_precision_logits_are_summed_in_float32():
    logits, labels = logits_and_labels()
    half = jnp.asarray(logits, jnp.bfloat16)
    losses, _ = train.losses.classification()(lambda x: x, Batch(half, jnp.asarray(labels)), None)
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, softmax_oracle(np.asarray(half, np.float32), labels, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_out_of_range_is_named(smoothing):
    with pytest.raises(ValueError, match="label_smoothing: expected a number from 0 to below 1"):
        train.losses.classification(smoothing)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (jnp.ones((3, 2, 2)), jnp.zeros(3, jnp.int32), r"expected logits \(batch, classes\)"),
        (jnp.ones((3, 2)), jnp.zeros((3, 1), jnp.int32), r"for \(3, 1\); drop the last axis: labels\[\.\.\., 0\]"),
        (jnp.ones((3, 2)), jnp.zeros(3), "labels: expected integer class numbers, got float32"),
    ],
)
def test_wrong_shapes_and_dtypes_are_named(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        train.losses.classification()(lambda x: x, Batch(logits, labels), None)
