import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxnn import functional as F
from tests.functional.compare import normal

K1 = np.array([[-1.0, 0.0], [0.0, 1.0]], np.float32)
K2 = np.array([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]], np.float32)


@pytest.mark.parametrize("kernel", [K1, K2], ids=["K1", "K2"])
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_a_map_is_the_sum_of_scipys_correlations_of_the_channels(kernel, channels):
    pictures = normal(2, 7, 9, channels).astype(np.float32)
    maps = F.feature_maps(jnp.asarray(pictures), jnp.asarray(kernel))
    for picture, got in zip(pictures, maps, strict=True):
        expected = sum(scipy.signal.correlate2d(picture[..., c], kernel, "valid") for c in range(channels))
        np.testing.assert_allclose(got[..., 0], expected, rtol=1e-5, atol=1e-5)


def test_flipped_kernels_give_the_convolution_of_mathematics():
    picture = normal(6, 5, 1).astype(np.float32)
    got = F.feature_maps(jnp.asarray(picture), jnp.asarray(K2)[::-1, ::-1], padding=2)
    np.testing.assert_allclose(got[..., 0], scipy.signal.convolve2d(picture[..., 0], K2), rtol=1e-5, atol=1e-5)


def test_several_kernels_are_several_maps_and_options_are_those_of_conv():
    picture = jnp.asarray(normal(8, 8, 3), jnp.float32)
    kernels = jnp.asarray(normal(4, 3, 3, seed=1), jnp.float32)
    maps = F.feature_maps(picture, kernels, stride=2, padding="SAME", pad_mode="reflect")
    assert maps.shape == (4, 4, 4)
    for i, kernel in enumerate(kernels):
        alone = F.feature_maps(picture, kernel, stride=2, padding="SAME", pad_mode="reflect")
        np.testing.assert_allclose(maps[..., i : i + 1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("pictures", "kernels", "message"),
    [
        (jnp.ones((8, 8, 1)), jnp.ones(3), r"kernels: expected .*got shape \(3,\)"),
        (jnp.ones((8, 8)), K1, r"pictures: expected .*got shape \(8, 8\); .*\[\.\.\., None\]"),
        (jnp.ones((8, 8, 1), jnp.uint8), K1, "pictures: expected a floating dtype, got uint8"),
        (jnp.ones((1, 8, 1)), K1, "expected a window that fits"),
    ],
)
def test_what_does_not_fit_is_named(pictures, kernels, message):
    with pytest.raises(ValueError, match=message):
        F.feature_maps(pictures, jnp.asarray(kernels))


def test_gradients_in_half_precision_sum_the_channels_in_float32():
    pictures, kernel = jnp.ones((4, 4, 1000), jnp.bfloat16), jnp.ones((2, 2), jnp.bfloat16)
    gradient = jax.grad(lambda kernel: F.feature_maps(pictures, kernel).astype(jnp.float32).sum())(kernel)
    np.testing.assert_allclose(np.asarray(gradient, np.float32), 9000, rtol=1e-2)


def test_gradients_of_channels_that_cancel_do_not_overflow_float16():
    pictures = jnp.stack([jnp.full((40, 40), 60.0), jnp.full((40, 40), -60.0)], -1).astype(jnp.float16)
    kernel, bias = jnp.ones((2, 2), jnp.float16), jnp.ones(1, jnp.float16)
    maps, pull = jax.vjp(lambda *a: F.feature_maps(pictures, a[0], bias=a[1]), kernel, bias)
    assert maps.dtype == jnp.float16
    np.testing.assert_array_equal(maps, np.ones((39, 39, 1)))
    np.testing.assert_array_equal(pull(jnp.ones_like(maps))[0], np.zeros((2, 2)))
