import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F
from tests.functional.compare import assert_as_torch, normal


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_value_and_gradients_are_those_of_pytorch(batch, bias):
    arrays = [normal(*batch, 5), normal(5, 4, seed=1)] + [normal(4, seed=2)] * bias
    assert_as_torch("dense", arrays, {}, {})


def test_half_precision_accumulates_in_float32_and_rounds_once():
    """Sums of 4096 products of ones stick at 256 where bfloat16 accumulates."""
    x, kernel, bias = jnp.ones((2, 4096), jnp.bfloat16), jnp.ones((4096, 3), jnp.bfloat16), jnp.ones(3, jnp.bfloat16)
    y = F.dense(x, kernel, -4096 * bias)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(y, np.float32), 0)
    dx, dk = jax.grad(lambda x, k: F.dense(x, k).sum().astype(jnp.float32), (0, 1))(x, kernel)
    assert dx.dtype == dk.dtype == jnp.bfloat16


x, k = jnp.ones((2, 4)), jnp.ones((4, 6))

ERRORS = {
    "kernel of a convolution": ((x, jnp.ones((1, 4, 6))), r"kernel: expected \(in, out\), got shape \(1, 4, 6\)"),
    "x of one number": ((jnp.ones(()), k), r"x: expected \(\*batch, in\), got shape \(\)"),
    "features": ((jnp.ones((2, 1)), k), r"x: expected \(\*batch, .* for a kernel of shape .*, got \(2, 1\)"),
    "bias": ((x, k, jnp.ones((1, 6))), r"bias: expected .*shape \(6,\), got \(1, 6\)"),
    "integers": ((x.astype(int), k), "x: expected a floating dtype, got int32"),
    "complex": ((x, k.astype(complex)), "kernel: expected real numbers, got complex64"),
    "mixed": (
        (x, k, jnp.ones(6, jnp.float16)),
        "x, kernel, bias: expected one dtype, got x float32, kernel float32, bias float16",
    ),
}


@pytest.mark.parametrize(("arrays", "message"), ERRORS.values(), ids=ERRORS)
def test_what_does_not_fit_is_named(arrays, message):
    with pytest.raises(ValueError, match=message):
        F.dense(*arrays)
