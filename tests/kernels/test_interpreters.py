"""`jet`, `checkify` and the policies of `jax.checkpoint` see our layers as they see those of `jax.lax`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import checkify
from jax.experimental.jet import jet

from jaxnn import functional as F


def plain(x, k):
    return lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def gradient(layer):
    return jax.grad(lambda x, k: jnp.sum(layer(x, k) ** 2), (0, 1))


LAYERS = {
    "conv": F.conv,
    "two conv": lambda x, k: F.conv(jnp.tanh(F.conv(x, k)), k),
    "depthwise": lambda x, k: F.conv(x * x, k[:, :, :1], groups=3),
    "members": jax.vmap(lambda x, k: F.conv(x, k[None])),
    "conv_transpose": lambda x, k: F.conv_transpose(x, k, stride=2),
    "max_pool": lambda x, k: F.max_pool(x * x, 3, stride=2, padding=1),
    "avg_pool": lambda x, k: F.avg_pool(x * x, 2, stride=1),
    "lp_pool": lambda x, k: F.lp_pool(x, 2),
    "adaptive_max_pool": lambda x, k: F.adaptive_max_pool(x * x, 2),
    "dense": lambda x, k: F.dense(x * x, k[0, 0]),
}


def random(seed):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=shape)) / 3 for shape in ((3, 5, 4, 3), (3, 3, 3, 3)))


@pytest.mark.parametrize("derived", [False, True], ids=["value", "gradient"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_higher_derivatives_by_jet_are_nested_ones(layer, derived):
    def function(x, k):
        return tuple(jax.tree.leaves((gradient(layer) if derived else layer)(x, k)))

    with jax.enable_x64(True):
        args, first, second = map(random, range(3))

        def nested(*args):
            def curve(t):
                return function(*(a + t * b + t**2 / 2 * c for a, b, c in zip(args, first, second, strict=True)))

            one = jnp.ones(())
            (value, slope), (_, bend) = jax.jvp(lambda t: jax.jvp(curve, (t,), (one,)), (one * 0,), (one,))
            return value, list(map(list, zip(slope, bend, strict=True)))

        terms = list(map(list, zip(first, second, strict=True)))
        got, expected = jax.jit(lambda *args: jet(function, args, terms))(*args), jax.jit(nested)(*args)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


CHECKED = {
    "conv": F.conv,
    "conv_transpose": F.conv_transpose,
    "avg_pool": lambda x, k: F.avg_pool(x, 2, stride=1),
    "gru": lambda x, k: F.gru(GRU, x)[0],
}
GRU = F.init_gru(jax.random.key(0), 3, 4)


def error_of(function, x, k):
    return jax.jit(checkify.checkify(function, errors=checkify.float_checks))(x, k)[0].get()


@pytest.mark.parametrize("layer", CHECKED.values(), ids=CHECKED)
def test_float_checks_find_the_layer_that_made_a_nan(layer):
    x, k = (a.astype(jnp.float32) for a in random(0))
    assert error_of(layer, x, k) is None
    assert error_of(gradient(layer), x, k) is None
    assert "nan generated" in error_of(layer, x.at[0, 0, 0, 0].set(jnp.nan), k)


def test_float_checks_find_a_nan_of_a_gradient():
    """The value is finite; one term of the kernel's gradient is infinity times zero."""
    x, k = (a.astype(jnp.float32) for a in random(0))

    def kernel_gradient(conv):
        return lambda x, g: jax.vjp(lambda k: conv(x, k), k)[1](g)[0]

    g = jnp.zeros(plain(x, k).shape).at[0, 2, 2, 0].set(jnp.inf)
    x = x.at[0, 2, 2, 0].set(0)
    assert "nan generated" in error_of(kernel_gradient(plain), x, g)
    assert "nan generated" in error_of(kernel_gradient(F.conv), x, g)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_person_who_debugs_sees_the_layer_that_made_the_value(value, compiled):
    """JAX looks for it by calls without jit, of which one is the operation itself."""
    x, k = jnp.full((1, 4, 4, 1), jnp.inf if value == "nan" else 3e38), jnp.ones((3, 3, 1, 1))
    k = k if value == "inf" else k.at[1, 1].set(-1)
    layer = jax.jit(F.conv) if compiled else F.conv
    with jax.debug_nans(value == "nan"), jax.debug_infs(value == "inf"):
        with pytest.raises(FloatingPointError, match=rf"invalid value \({value}\) encountered in conv"):
            layer(x, k)
        with jax.disable_jit(), pytest.raises(FloatingPointError, match=rf"invalid value \({value}\)"):
            F.avg_pool(F.conv(x, k), 2)


@pytest.mark.parametrize(
    ("conv", "name"),
    [(F.conv, "conv"), (plain, "conv_general_dilated"), (F.conv_transpose, "conv_dx")],
    ids=["conv", "lax", "conv_transpose"],
)
def test_a_policy_of_rematerialisation_keeps_convolutions(conv, name):
    x, k = (a.astype(jnp.float32) for a in random(0))
    policies = jax.checkpoint_policies
    both = policies.save_from_both_policies(policies.dots_saveable, F.convolutions_saveable)

    def layers(k, x):
        return jnp.sin(F.dense(jnp.sin(conv(jnp.sin(conv(x, k)), k)), k[0, 0]))

    def count(policy):
        block = jax.checkpoint(layers, policy=policy)
        text = str(jax.make_jaxpr(jax.grad(lambda k: block(k, x).sum()))(k))
        return [text.count(f" {operation}") for operation in (f"{name}[", "dot_general[", "sin ")]

    convolutions, products, sines = count(None)
    assert count(F.convolutions_saveable) == [convolutions - 2, products, sines]
    assert count(both) == [convolutions - 2, products - 1, sines]
