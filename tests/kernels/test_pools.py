"""Max and sum pooling against `lax.reduce_window`: values, derivatives, ties, infinities, NaN, maps."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnn.kernels import max_pool, sum_pool
from jaxnn.kernels.geometry import Window
from jaxnn.kernels.platform import formulation
from jaxnn.testing import compiled_ops
from tests.kernels.pools import DILATED, POOLS

every_pool = pytest.mark.parametrize(("spatial", "window"), POOLS.values(), ids=POOLS)
dilated_too = pytest.mark.parametrize(
    ("spatial", "window"), [*POOLS.values(), *DILATED.values()], ids=[*POOLS, *DILATED]
)


def plain(x, window, identity=-jnp.inf, operation=lax.max):
    return lax.reduce_window(
        x,
        identity,
        operation,
        (1, *window.size, 1),
        (1, *window.stride, 1),
        ((0, 0), *window.padding, (0, 0)),
        window_dilation=(1, *window.dilation, 1),
    )


plain_sum = partial(plain, identity=0.0, operation=lax.add)


def by_hand(x, window, g):
    """The maxima, and the cotangents given to each window's winner, one by one.

    The first maximum in row-major order wins, or the last NaN; padding never.
    """
    inside = np.pad(np.ones(x.shape, bool), ((0, 0), *window.padding, (0, 0)))
    pairs = ((0, 0), *window.padding, (0, 0))
    padded = np.pad(x, pairs, constant_values=-np.inf)
    given = np.zeros_like(padded)
    y = np.zeros_like(g)
    for at in np.ndindex(g.shape):
        b, *place, c = at
        taps = [
            (b, *(p * s + t for p, s, t in zip(place, window.stride, tap, strict=True)), c) for tap in window.taps()
        ]
        best = None
        for tap in taps:
            if inside[tap] and (best is None or padded[tap] > padded[best] or np.isnan(padded[tap])):
                best = tap
        y[at] = np.max([padded[tap] for tap in taps])
        if best is not None:
            given[best] += g[at]
    inner = tuple(slice(low, n + low) for n, (low, _) in zip(x.shape, pairs, strict=True))
    return y, given[inner]


def everything(function):
    def loss(x):
        return jnp.sum(jnp.tanh(function(x)) ** 2)

    def run(x, g, dx):
        y, pull = jax.vjp(function, x)
        return {
            "value": y,
            "reverse": pull(g)[0],
            "forward": jax.jvp(function, (x,), (dx,))[1],
            "forward over reverse": jax.jvp(jax.grad(loss), (x,), (dx,))[1],
            "reverse over reverse": jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), dx))(x),
        }

    return jax.jit(run)


def arrays(spatial, window, seed=0, batch=2, channels=3):
    rng = np.random.default_rng(seed)
    x, dx = rng.normal(size=(2, batch, *spatial, channels))
    return x, rng.normal(size=(batch, *window.out(spatial), channels)), dx


def assert_same(got, expected):
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, err_msg=str(path))


@every_pool
@pytest.mark.parametrize(
    ("pool", "reference"), [(max_pool.max_pool, plain), (sum_pool.sum_pool, plain_sum)], ids=["max", "sum"]
)
def test_values_and_all_derivatives_are_those_of_lax(pool, reference, spatial, window):
    with jax.enable_x64(True):
        x, g, dx = arrays(spatial, window)
        got = everything(partial(pool, window=window))(x, g, dx)
        # On GPUs `jax.lax` rounds what it compares in float64, to find the tangent of a maximum.
        with jax.default_device(jax.devices("cpu")[0]):
            expected = everything(partial(reference, window=window))(x, g, dx)
        assert_same(got, expected)


@pytest.mark.parametrize(("spatial", "window"), DILATED.values(), ids=DILATED)
def test_dilated_max_pooling_has_the_derivatives_that_lax_lacks(spatial, window):
    with jax.enable_x64(True):
        x, g, dx = arrays(spatial, window)
        got = everything(partial(max_pool.max_pool, window=window))(x, g, dx)
        y, given = by_hand(x, window, g)
        assert_same((got["value"], got["reverse"]), (y, given))
        np.testing.assert_allclose(np.vdot(got["forward"], g), np.vdot(given, dx))


def test_a_window_that_sees_only_padding_gives_no_gradient_on_any_platform():
    window = Window((2,), (1,), ((1, 1),), (2,))
    spread = jax.jit(partial(formulation(sum_pool.spread_p), window=window, spatial=(1,)))
    np.testing.assert_array_equal(spread(jnp.ones((1, 1, 1))), [[[0]]])


def derivatives(function):
    def run(x, g, dx):
        y, pull = jax.vjp(function, x)
        return y, pull(g)[0], jax.jvp(function, (x,), (dx,))[1]

    return jax.jit(run)


ODD = {
    "ties": [0.0, 1.0],
    "NaN": [np.nan],
    "inf": [np.inf],
    "-inf": [-np.inf],
    "all": [np.nan, np.inf, -np.inf, 0.0, 0.0, 0.0],
}


@pytest.mark.optimized
@dilated_too
def test_one_winner_of_the_input_takes_the_gradient_also_among_ties_infinities_and_nan(spatial, window):
    """`jax.lax` gives it to padding or to the NaN's neighbour, and has no tangent at minus infinity."""
    rng = np.random.default_rng(1)
    sound, g, dx = (a.astype(np.float32) for a in arrays(spatial, window))
    run = derivatives(partial(max_pool.max_pool, window=window))
    for (name, odd), share in itertools.product(ODD.items(), (0.3, 1.0)):
        x = np.where(rng.random(sound.shape) < share, rng.choice(odd, sound.shape), sound).astype(np.float32)
        value, reverse, forward = run(x, g, dx)
        y, given = by_hand(x, window, g)
        what = f"{name}, {share:.0%} of the input"
        np.testing.assert_array_equal(value, y, err_msg=what)
        np.testing.assert_allclose(reverse, given, rtol=1e-5, atol=1e-5, err_msg=what)
        np.testing.assert_allclose(np.vdot(forward, g), np.vdot(given, dx), rtol=1e-4, err_msg=what)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "bfloat16"])
def test_the_lowest_number_of_a_dtype_without_infinity_is_no_padding(dtype):
    window = Window((3,), (2,), ((1, 1),), (1,))
    lowest = float(jnp.finfo(dtype).min)
    x = jnp.asarray([[[lowest], [lowest], [lowest], [1.0]]], dtype)
    one = jnp.ones((1, 2, 1), dtype)
    value, reverse, forward = derivatives(partial(max_pool.max_pool, window=window))(x, one, jnp.ones_like(x))
    np.testing.assert_array_equal(np.asarray(value, np.float32)[0, :, 0], [lowest, 1])
    np.testing.assert_array_equal(np.asarray(reverse, np.float32)[0, :, 0], [1, 0, 0, 1])
    np.testing.assert_array_equal(np.asarray(forward, np.float32), 1)


@dilated_too
@pytest.mark.parametrize("pool", [max_pool.max_pool, sum_pool.sum_pool], ids=["max", "sum"])
def test_maps_are_loops(pool, spatial, window):
    def value_and_gradient(x, g):
        y, pull = jax.vjp(partial(pool, window=window), x)
        return y, pull(g)[0]

    x, g, _ = arrays(spatial, window, batch=6)
    x, g = (jnp.asarray(a, jnp.float32).reshape(3, 2, *a.shape[1:]) for a in (x, g))
    once = jax.jit(jax.vmap(value_and_gradient))(x, g)
    many = [jax.jit(value_and_gradient)(*pair) for pair in zip(x, g, strict=True)]
    assert_same(once, jax.tree.map(lambda *parts: jnp.stack(parts), *many))
    # Only the cotangent mapped, as in a Jacobian; and an axis that is not the first.
    only = jax.jit(jax.vmap(lambda g: value_and_gradient(x[0], g)[1], in_axes=-1, out_axes=-1))(jnp.moveaxis(g, 0, -1))
    expected = [jax.jit(value_and_gradient)(x[0], each)[1] for each in g]
    assert_same(only, jnp.stack(expected, -1))


@dilated_too
def test_every_real_dtype_has_its_maximum(spatial, window):
    x, _, _ = arrays(spatial, window)
    given = {
        dtype: jnp.asarray(np.round(20 * x) + (100 if dtype == "uint8" else -60), dtype)
        for dtype in ("int8", "uint8", "int32", "bfloat16", "float16")
    }
    found = jax.jit(partial(jax.tree.map, partial(max_pool.max_pool, window=window)))(given)
    for dtype, y in found.items():
        assert y.dtype == dtype
        expected, _ = by_hand(np.asarray(given[dtype], np.float64), window, np.zeros(y.shape))
        np.testing.assert_array_equal(np.asarray(y, np.float64), expected, err_msg=dtype)


def test_integers_have_no_derivative_but_may_stand_beside_floats():
    _, window = POOLS["tiles"]

    def loss(w, x):
        return jnp.sum(w * max_pool.max_pool(x, window).astype(jnp.float32))

    x = jnp.arange(24, dtype=jnp.int32).reshape(1, 4, 6, 1)
    gradient = jax.grad(loss)(jnp.ones((1, 2, 2, 1)), x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[8, 11], [20, 23]])


def test_a_dilated_window_may_have_more_taps_than_int8_counts():
    window = Window((130,), (1,), ((0, 0),), (2,))
    x, g, dx = arrays((262,), window, batch=1)
    x[:, 1 + 2 * 129] = 9.0
    value, reverse, forward = derivatives(partial(max_pool.max_pool, window=window))(x, g, dx)
    y, given = by_hand(x, window, g)
    np.testing.assert_allclose(value, y, rtol=1e-6)
    np.testing.assert_allclose(reverse, given, rtol=1e-6)
    np.testing.assert_allclose(np.vdot(forward, g), np.vdot(given, dx), rtol=1e-4)


@pytest.mark.parametrize("pool", [max_pool.max_pool, sum_pool.sum_pool], ids=["max", "sum"])
def test_a_large_window_makes_no_large_program(pool):
    """A global pool over a picture has a window of 50,176 taps."""
    window = Window((224, 224), (224, 224), ((0, 0), (0, 0)), (1, 1))
    shape = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    ops = compiled_ops(jax.grad(lambda x: jnp.sum(pool(x, window) ** 2)), shape, optimized=False)
    assert ops.total() < 100


def test_only_a_tile_that_is_differentiated_is_pooled_tap_by_tap():
    """Alone, XLA computes it in one call with the convolution and ReLU before it."""

    def pooled(x):
        return max_pool.max_pool(x, Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)))

    x = jnp.ones((2, 4, 4, 3))
    assert "reduce_window" in jax.jit(pooled).lower(x).as_text()
    assert "reduce_window" not in jax.jit(lambda x: jax.vjp(pooled, x)[1](x[:, ::2, ::2])).lower(x).as_text()
    assert "reduce_window" not in jax.jit(lambda x: jax.vjp(pooled, x)[0]).lower(x).as_text()
