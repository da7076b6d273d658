"""The precision of a convolution is read where it is traced, in every form that `jax.lax` takes."""

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxnn import functional as F
from tests.kernels.test_programs import accelerators, derivatives, text

X, K = jnp.ones((2, 5, 6, 4)), jnp.ones((3, 3, 4, 4))
FORMS = {
    "not given": None,
    "name": "highest",
    "name of its arithmetic": "bfloat16_3x",
    "value": lax.Precision.HIGH,
    "pair": (lax.Precision.HIGHEST, lax.Precision.DEFAULT),
    "list of names": ["high", "default"],
    "algorithm": lax.DotAlgorithmPreset.BF16_BF16_F32,
    "name of an algorithm": "BF16_BF16_F32",
}


def plain(x, k, precision=None):
    return lax.conv_general_dilated(
        x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=precision
    )


def both(ours, other, *args, platform):
    return text(ours, *args, platform=platform), text(other, *args, platform=platform)


@accelerators
@pytest.mark.parametrize("precision", FORMS.values(), ids=FORMS)
def test_programs_show_the_precision_as_those_of_lax(precision, platform):
    layers = [partial(conv, precision=precision) for conv in (F.conv, plain)]
    ours, expected = both(*layers, X, K, platform=platform)
    assert ours == expected
    ours, expected = both(*map(derivatives, layers), X, K, platform=platform)
    assert ours == expected


SETTINGS = {"around the call": (True, False), "around the derivative": (False, True), "around both": (True, True)}


@accelerators
@pytest.mark.parametrize(("inside", "outside"), SETTINGS.values(), ids=SETTINGS)
def test_a_setting_counts_where_it_counts_for_lax(inside, outside, platform):
    def set_where(wanted, precision):
        return jax.default_matmul_precision(precision) if wanted else nullcontext()

    def program(conv):
        @jax.jit
        def layer(x, k):
            with set_where(inside, "highest"):
                return conv(x, k)

        def run(x, k):
            y, pull = jax.vjp(layer, x, k)
            with set_where(outside, "high"):
                return pull(y)

        return run

    ours, expected = both(program(F.conv), program(plain), X, K, platform=platform)
    assert ours == expected
    assert "HIGH" in ours


def test_a_setting_at_the_time_of_lowering_is_too_late():
    with jax.default_matmul_precision(None):
        traced = jax.jit(lambda x, k: F.conv(x, k)).trace(X, K)
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" not in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_what_is_no_precision_is_refused():
    for precision in ("best", 3, ("high",), ["high", "best"]):
        with pytest.raises(ValueError, match="precision: expected"):
            F.conv(X, K, precision=precision)


LAYERS = {
    "conv": lambda x: F.conv(x, jnp.ones((3, 3, 4, 2), x.dtype)),
    "depthwise": lambda x: F.conv(x, jnp.ones((3, 3, 1, 4), x.dtype), groups=4),
    "conv_transpose": lambda x: F.conv_transpose(x, jnp.ones((3, 3, 4, 2), x.dtype), stride=2),
    "max_pool": lambda x: F.max_pool(x, 2),
    "avg_pool": lambda x: F.avg_pool(x, 3, stride=1),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_64_bits_inside_a_compiled_function_are_kept(layer):
    @jax.jit
    def wide(x):
        with jax.enable_x64(True):
            return jnp.sum(layer(x.astype(jnp.float64))).astype(jnp.float32)

    value, gradient = jax.value_and_grad(wide)(X)
    expected, gradient_expected = jax.value_and_grad(lambda x: jnp.sum(layer(x)))(X)
    assert jnp.allclose(value, expected, rtol=1e-5)
    assert jnp.allclose(gradient, gradient_expected, rtol=1e-4, atol=1e-5)
