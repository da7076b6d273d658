"""The three convolution primitives against `jax.lax`: values and every derivative."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.kernels import blocks, conv, conv_cpu, elementwise_cpu
from jaxnn.kernels.geometry import lax_conv
from jaxnn.kernels.taps import many
from jaxnn.testing import assert_close
from tests.kernels.convolutions import ALONE, CONVOLUTIONS, DEPTHWISE, EVERY_PATH, FEW, FEW_GROUPS, MANY, MANY_GROUPS


def everything(function):
    """Value, both derivatives in both modes, and second derivatives forward and reverse over reverse."""

    def loss(x, k):
        return jnp.sum(jnp.tanh(function(x, k)))

    def run(x, k, g, dx, dk):
        gradient = jax.grad(loss, (0, 1))
        y, pull = jax.vjp(function, x, k)
        return {
            "value": y,
            "reverse": pull(g),
            "forward": jax.jvp(function, (x, k), (dx, dk))[1],
            "forward over reverse": jax.jvp(gradient, (x, k), (dx, dk))[1],
            "reverse over reverse": jax.grad(lambda x, k: sum(map(jnp.vdot, gradient(x, k), (dx, dk))), (0, 1))(x, k),
        }

    return jax.jit(run)


@cache
def everything_of_lax(case):
    """The arguments, in float64, and everything that `jax.lax` makes of them."""
    arrays = (*case.arrays(), *case.arrays(seed=1)[:2])
    return arrays, everything(of(case, lax_conv))(*arrays)


def assert_same(got, expected, rtol=1e-11):
    flat = jax.tree.leaves_with_path(got)
    for (path, a), b in zip(flat, jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype, path
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(initial=1), err_msg=str(path))


def of(case, function):
    return partial(function, geometry=case.geometry)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_value_and_all_derivatives_are_those_of_lax(case):
    with jax.enable_x64(True):
        arrays, expected = everything_of_lax(case)
        assert_same(everything(of(case, conv.conv))(*arrays), expected)


@pytest.fixture
def by_taps(monkeypatch):
    """Products of every tap, also where something else is faster."""
    monkeypatch.setattr(conv_cpu, "choose", lambda work: "elementwise" if work.elementwise else "taps")


@pytest.mark.usefixtures("by_taps")
@pytest.mark.parametrize("case", [case for case in CONVOLUTIONS if not many(case.window)], ids=str)
def test_products_of_taps_in_blocks_are_those_of_lax(case, monkeypatch):
    with jax.enable_x64(True):
        arrays, expected = everything_of_lax(case)
        monkeypatch.setattr(blocks, "_block", lambda batch, *_: min(batch, 2))
        assert_same(everything(of(case, conv.conv))(*arrays), expected)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_the_canonical_form_is_that_of_lax(case, monkeypatch):
    monkeypatch.setattr(conv_cpu, "choose", lambda work: "canonical")
    with jax.enable_x64(True):
        arrays, expected = everything_of_lax(case)
        assert_same(everything(of(case, conv.conv))(*arrays), expected)


def value_and_gradients(function):
    def run(x, k, g):
        y, pull = jax.vjp(function, x, k)
        return (y, *pull(g))

    return run


def test_what_is_too_large_to_lay_out_is_the_same_tap_by_tap(monkeypatch):
    case = ALONE
    with jax.enable_x64(True):
        arrays = case.arrays()
        expected = jax.jit(value_and_gradients(of(case, lax_conv)))(*arrays)
        monkeypatch.setattr(elementwise_cpu, "LARGE_BYTES", 0)
        assert_same(jax.jit(value_and_gradients(of(case, conv.conv)))(*arrays), expected)


# Which of input, kernel and cotangent carry a mapped axis, and where; two entries are a map of a map.
MAPS = {
    "input": [(0, None, 0)],
    "kernel": [(None, 0, 0)],
    "both": [(0, 0, 0)],
    "cotangent": [(None, None, 0)],
    "other axes": [(2, -1, 1)],
    "input, then kernel": [(None, 0, 0), (0, None, 0)],
    "both, then input": [(0, None, 0), (0, 0, 0)],
    "both, then kernel": [(None, 0, 0), (0, 0, 0)],
    "both twice": [(0, 0, 0), (0, 0, 0)],
}


@pytest.mark.parametrize("case", EVERY_PATH, ids=str)
def test_mapping_over_either_operand_or_both_is_a_loop_over_that_of_lax(case):
    @jax.jit
    def mapped(arrays):
        results = {}
        for name, maps in MAPS.items():
            mapping = value_and_gradients(of(case, conv.conv))
            for axes in maps:
                mapping = jax.vmap(mapping, in_axes=axes)
            results[name] = mapping(*arrays[name])
        return results

    with jax.enable_x64(True):
        single = jax.jit(value_and_gradients(of(case, lax_conv)))
        arrays = {name: _with_mapped_axes(case, maps) for name, maps in MAPS.items()}
        assert_same(mapped(arrays), {name: _looped(single, arrays[name], maps) for name, maps in MAPS.items()})


def _looped(function, arrays, maps):
    """The map by NumPy: the last entry of `maps` is the outer one."""
    if not maps:
        return function(*arrays)
    *inner, axes = maps
    each = [
        _looped(function, [a if axis is None else a.take(i, axis) for a, axis in zip(arrays, axes, strict=True)], inner)
        for i in range(2 + len(inner))
    ]
    return tuple(map(np.stack, zip(*each, strict=True)))


def _with_mapped_axes(case, maps):
    rng = np.random.default_rng(0)
    arrays = []
    for i, array in enumerate(case.arrays(batch=2)):
        shape = list(array.shape)
        for depth, axes in enumerate(maps):
            if axes[i] is not None:
                shape.insert(axes[i] % (len(shape) + 1), 2 + depth)
        arrays.append(rng.normal(size=shape))
    return arrays


@pytest.mark.parametrize("case", [FEW, MANY], ids=str)
def test_jacobians_are_those_of_lax(case):
    """They map over the tangents and cotangents alone."""

    def jacobians(function):
        return jax.jit(lambda x, k: (jax.jacfwd(function, (0, 1))(x, k), jax.jacrev(function, (0, 1))(x, k)))

    with jax.enable_x64(True):
        x, k, _ = case.arrays(batch=1)
        assert_same(jacobians(of(case, conv.conv))(x, k), jacobians(of(case, lax_conv))(x, k))


@pytest.mark.parametrize("case", [FEW, MANY], ids=str)
def test_training_in_a_scan_with_remat_is_that_of_lax(case):
    def train(function):
        def step(k, x):
            @jax.checkpoint
            def layer(k):
                return jnp.tanh(function(x, k))

            gradient = jax.grad(lambda k: jnp.sum(layer(k) ** 2))(k)
            return k - 0.01 * gradient, jnp.sum(gradient**2)

        return jax.jit(lambda x, k: jax.lax.scan(step, k, x))

    with jax.enable_x64(True):
        xs = jnp.stack([case.arrays(seed=seed)[0] for seed in range(3)])
        k = case.arrays()[1]
        assert_same(train(of(case, conv.conv))(xs, k), train(of(case, lax_conv))(xs, k))


@pytest.mark.parametrize("case", EVERY_PATH, ids=str)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32], ids=lambda d: d.__name__)
def test_narrow_floats_keep_their_dtype_and_accumulate_in_float32(case, dtype):
    arrays = case.arrays(dtype=dtype)
    got = jax.jit(value_and_gradients(of(case, conv.conv)))(*arrays)
    assert all(a.dtype == dtype for a in got)
    with jax.enable_x64(True):
        wide = [a.astype(jnp.float64) for a in arrays]
        reference = jax.jit(value_and_gradients(of(case, lax_conv)))
        expected, magnitude = reference(*wide), reference(*map(jnp.abs, wide))
    assert_close(got, expected, reduction=arrays[0].size, roundings=1, magnitude=magnitude)


@pytest.mark.parametrize("case", [FEW_GROUPS, MANY_GROUPS, DEPTHWISE], ids=str)
def test_operation_by_operation_it_is_the_same(case):
    """Without `jit` each primitive compiles on its own."""
    x, k, g = case.arrays(dtype=jnp.float32)
    got = value_and_gradients(of(case, conv.conv))(x, k, g)
    assert_close(got, jax.jit(value_and_gradients(of(case, lax_conv)))(x, k, g), reduction=x.size)
