"""Pooling against PyTorch and Flax, and its corner cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn import functional as F
from tests.functional.compare import assert_as_torch, normal

# spatial size, window, options of both; padding is the same on both sides, as PyTorch has it
WINDOWS = {
    "1d": ((9,), (3,), {"stride": (2,), "padding": (1,)}),
    "2d": ((6, 7), (2, 2), {}),
    "2d, overlapping": ((6, 7), (3, 2), {"stride": (1, 2), "padding": (1, 0)}),
    "2d, ceil": ((6, 7), (3, 2), {"stride": (2, 3), "ceil_mode": True}),
    "2d, ceil and padding": ((7, 6), (3, 3), {"stride": (2, 2), "padding": (1, 1), "ceil_mode": True}),
    "2d, last window in the padding": ((4, 5), (2, 3), {"stride": (3, 4), "padding": (1, 1), "ceil_mode": True}),
    "3d": ((4, 5, 4), (2, 3, 2), {"stride": (2, 1, 2), "padding": (1, 1, 0)}),
    "3d, ceil": ((4, 5, 3), (2, 2, 2), {"stride": (2, 2, 2), "padding": (0, 1, 0), "ceil_mode": True}),
}
DILATED = {
    "1d, dilated": ((9,), (3,), {"stride": (1,), "dilation": (3,), "padding": (1,)}),
    "2d, dilated, ceil": (
        (9, 8),
        (3, 2),
        {"stride": (2, 3), "dilation": (2, 3), "padding": (1, 1), "ceil_mode": True},
    ),
}


def assert_pool_as_torch(name, x, window, options):
    ours = options | ({"padding": [(p, p) for p in options["padding"]]} if "padding" in options else {})
    assert_as_torch(name, [x], {"window": window} | ours, {"kernel_size": window} | options)


@pytest.mark.parametrize(
    ("size", "window", "options"), [*WINDOWS.values(), *DILATED.values()], ids=[*WINDOWS, *DILATED]
)
def test_max_pool_and_its_gradient_are_those_of_pytorch(size, window, options):
    ties = np.random.default_rng(1).integers(0, 3, (2, *size, 3)).astype(float)
    assert_pool_as_torch("max_pool", np.concatenate([normal(2, *size, 3), ties]), window, options)


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize(("size", "window", "options"), WINDOWS.values(), ids=WINDOWS)
def test_avg_pool_and_its_gradient_are_those_of_pytorch(size, window, options, count_include_pad):
    assert_pool_as_torch("avg_pool", normal(2, *size, 3), window, options | {"count_include_pad": count_include_pad})


@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
@pytest.mark.parametrize(("size", "window", "stride"), [((9,), (3,), (2,)), ((6, 7), (3, 2), (3, 1))], ids=["1d", "2d"])
def test_lp_pool_and_its_gradient_are_those_of_pytorch(size, window, stride, p):
    """Of positive numbers: PyTorch takes the power without the magnitude."""
    x = np.abs(normal(2, *size, 3)) + 0.1
    options = {"stride": stride}
    torch_window = window if len(window) > 1 else window[0]
    assert_as_torch(
        "lp_pool", [x], {"window": window, "p": p, **options}, {"norm_type": p, "kernel_size": torch_window, **options}
    )


@st.composite
def windows(draw):
    n = draw(st.integers(1, 2))
    per_axis = lambda low, high: st.tuples(*[st.integers(low, high)] * n)  # noqa: E731
    window, stride, dilation = draw(per_axis(1, 3)), draw(per_axis(1, 4)), draw(per_axis(1, 2))
    padding = tuple(draw(st.integers(0, k // 2)) for k in window)
    extent = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    # A window that sees nothing but padding makes PyTorch write out of bounds; with size >= dilation there is none.
    least = [max(d, e - 2 * p) for d, e, p in zip(dilation, extent, padding, strict=True)]
    size = tuple(n + draw(st.integers(0, 5)) for n in least)
    return size, window, {"stride": stride, "padding": padding, "ceil_mode": draw(st.booleans())}, dilation


@given(windows())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_any_window_is_that_of_pytorch(drawn):
    size, window, options, dilation = drawn
    x = normal(1, *size, 2)
    assert_pool_as_torch("max_pool", x, window, options | {"dilation": dilation})
    if all(n + 2 * p >= k for n, p, k in zip(size, options["padding"], window, strict=True)):
        for count in (False, True):
            assert_pool_as_torch("avg_pool", x, window, options | {"count_include_pad": count})


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("window", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 2)), ((3, 3), (2, 3))], ids=str)
def test_they_are_those_of_flax(padding, window, stride):
    x = jnp.asarray(normal(2, 7, 8, 3), jnp.float32)
    options = {"stride": stride, "padding": padding}
    flax = {"strides": stride, "padding": padding}
    np.testing.assert_array_equal(F.max_pool(x, window, **options), nnx.max_pool(x, window, **flax))
    for count in (False, True):
        ours = F.avg_pool(x, window, count_include_pad=count, **options)
        with jax.numpy_dtype_promotion("standard"):
            theirs = nnx.avg_pool(x, window, count_include_pad=count, **flax)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# Corner cases


def test_the_stride_is_the_window_unless_said():
    x = jnp.arange(12.0)[:, None]
    np.testing.assert_array_equal(F.max_pool(x, (4,))[:, 0], [3, 7, 11])
    np.testing.assert_array_equal(F.max_pool(x, (4,), stride=1).shape, (9, 1))


def test_a_last_window_that_would_start_beyond_the_input_is_dropped():
    """Of 2 by 3 with padding 1, it would start on the high padding."""
    x = jnp.arange(1.0, 5.0)[:, None]
    options = {"stride": 3, "padding": 1}
    np.testing.assert_array_equal(F.max_pool(x, (2,), ceil_mode=True, **options)[:, 0], [1, 4])
    longer = jnp.arange(1.0, 7.0)[:, None]  # here one of 3 starts on the last element
    np.testing.assert_array_equal(F.max_pool(longer, (3,), ceil_mode=True, **options)[:, 0], [2, 5, 6])
    np.testing.assert_array_equal(F.max_pool(-longer, (3,), ceil_mode=True, **options)[:, 0], [-1, -3, -6])
    np.testing.assert_array_equal(F.max_pool(longer, (3,), **options)[:, 0], [2, 5])


def test_ceil_mode_counts_padding_but_never_what_lies_beyond_it():
    x = jnp.array([6.0, 6.0, 6.0, 6.0])[:, None]
    options = {"stride": 3, "padding": 1, "ceil_mode": True}
    np.testing.assert_array_equal(F.avg_pool(x, (3,), **options)[:, 0], [6, 6])
    np.testing.assert_array_equal(F.avg_pool(x, (3,), count_include_pad=True, **options)[:, 0], [4, 4])
    wide = {"stride": 4, "padding": 1, "ceil_mode": True}
    np.testing.assert_array_equal(F.avg_pool(x, (3,), count_include_pad=True, **wide)[:, 0], [4, 3])


def test_ceil_mode_keeps_a_window_that_is_larger_than_the_input():
    x = jnp.array([1.0, 3.0])[:, None]
    np.testing.assert_array_equal(F.max_pool(x, (5,), ceil_mode=True), [[3]])
    np.testing.assert_array_equal(F.avg_pool(x, (5,), ceil_mode=True), [[2]])
    np.testing.assert_allclose(F.lp_pool(x, (5,), ceil_mode=True), [[10**0.5]], rtol=1e-6)


def test_padding_never_wins_nor_darkens_the_border():
    x = -jnp.ones((5, 5, 1))
    for pool in (F.max_pool, F.avg_pool):
        np.testing.assert_array_equal(pool(x, 3, stride=1, padding="SAME"), x)


def test_a_dilated_window_may_see_nothing_but_padding():
    """Its taps stand left and right of the only element."""
    x = jnp.array([[5.0]])
    options = {"stride": 1, "padding": 1, "dilation": 2}
    np.testing.assert_array_equal(F.max_pool(x, (2,), **options), [[-jnp.inf]])
    np.testing.assert_array_equal(F.avg_pool(x, (2,), **options), [[0]])
    np.testing.assert_array_equal(F.lp_pool(x, (2,), **options), [[0]])
    np.testing.assert_array_equal(F.max_pool(x.astype(int), (2,), **options), [[np.iinfo(np.int32).min]])
    for pool in (F.max_pool, F.avg_pool, F.lp_pool):
        np.testing.assert_array_equal(jax.grad(lambda x, pool=pool: pool(x, (2,), **options).sum())(x), [[0]])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32"])
def test_integers_have_a_maximum_padding_included(dtype):
    info = np.iinfo(dtype)
    x = jnp.array([info.min, info.max, info.min, info.min], dtype)[:, None]
    y = F.max_pool(x, (3,), stride=2, padding=1)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y[:, 0], [info.max, info.max])
    np.testing.assert_array_equal(F.max_pool(x[2:], (3,), stride=2, padding=1)[:, 0], [info.min])


@pytest.mark.parametrize(
    ("pool", "value"),
    [
        (lambda x: F.avg_pool(x, 32), 1),
        (lambda x: F.lp_pool(x, 32), 32),
        (F.global_avg_pool, 1),
        (lambda x: F.adaptive_avg_pool(x, 1), 1),
    ],
    ids=["avg", "lp", "global avg", "adaptive avg"],
)
def test_half_precision_accumulates_in_float32(pool, value):
    """A sum of 1024 ones sticks at 256 where bfloat16 accumulates."""
    np.testing.assert_array_equal(np.asarray(pool(jnp.ones((1, 32, 32, 2), jnp.bfloat16)), np.float32), value)


def test_lp_pool_of_zeros_has_no_gradient_and_no_nan():
    x = jnp.zeros((4, 1))
    for p in (1, 2, 3, 1.5):
        value, gradient = jax.value_and_grad(lambda x, p=p: F.lp_pool(x, (2,), p=p).sum())(x)
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)
    mixed = jnp.array([0.0, -2.0])[:, None]
    for p in (1, 2, 3, 1.5):
        gradient = jax.grad(lambda x, p=p: F.lp_pool(x, (2,), p=p).sum())(mixed)
        assert np.all(np.isfinite(gradient))
        np.testing.assert_allclose(gradient[1], -1, rtol=1e-6)


def test_the_gradient_of_overlapping_windows_is_a_sum_in_float32():
    """An element that is the maximum of 11x11 windows, whose cotangents bfloat16 would add up to 124.5."""
    x = jnp.zeros((1, 21, 21, 1)).at[0, 10, 10, 0].set(1)
    g = 1 + jnp.arange(121.0).reshape(1, 11, 11, 1) / 600
    for dtype in (jnp.bfloat16, jnp.float16):
        gradient = jax.vjp(lambda x: F.max_pool(x, 11, stride=1), x.astype(dtype))[1](g.astype(dtype))[0]
        np.testing.assert_allclose(float(gradient[0, 10, 10, 0]), g.astype(dtype).astype(float).sum(), rtol=4e-3)


def test_a_dtype_without_infinity_has_a_maximum_beside_padding():
    x = jnp.asarray([-448.0, 2.0, -448.0, -448.0], jnp.float8_e4m3fn)[:, None]
    y = F.max_pool(x, (3,), stride=3, padding=1, ceil_mode=True)
    np.testing.assert_array_equal(y[:, 0].astype(jnp.float32), [2, -448])


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 60, 100, 1000])
def test_a_norm_overflows_and_vanishes_only_where_the_dtype_does(p):
    x = jnp.array([1e20, 1e20, 1e-25, 1e-25, 0, 0, 3e18, 1e-18, 1e38, 1e38, np.nan, 1, np.inf, 1])[:, None]
    got, gradient = jax.value_and_grad(lambda x: F.lp_pool(x, (2,), p=p)[:5].sum(), has_aux=False)(x)
    got = F.lp_pool(x, (2,), p=p)[:, 0]
    two = 2 ** (1 / p)
    np.testing.assert_allclose(got, [1e20 * two, 1e-25 * two, 0, 3e18, 1e38 * two, np.nan, np.inf], rtol=2e-6)
    each = 2 ** (1 / p - 1)
    small = 1 if p == 1 else 0
    np.testing.assert_allclose(
        gradient[:10, 0], [each] * 4 + [0, 0, 1, small, each, each], rtol=2e-4, atol=1e-15 if p > 1.5 else 1e-18
    )


@pytest.mark.parametrize(("p", "second"), [(1, 0.0), (1.5, 0.0), (2, 0.5), (3, 0.0), (4, 0.0)])
def test_the_second_derivative_of_a_norm_at_zero(p, second):
    """By an element that is zero beside -2; a window of zeros has none. For p = 1.5 there is none either."""
    for mode in (jax.jacfwd, jax.jacrev):
        hessian = jax.jit(mode(jax.grad(lambda x: F.lp_pool(x, (2,), p=p).sum())))
        np.testing.assert_allclose(hessian(jnp.array([[0.0], [-2.0]]))[0, 0, 0, 0], second, atol=1e-6)
        np.testing.assert_array_equal(hessian(jnp.zeros((2, 1))), 0)


@pytest.mark.parametrize(
    ("window", "stride", "dilation"),
    [((140, 3), (20, 2), (2, 1)), ((12, 12), (1, 3), (1, 1)), ((11, 3), (1, 1), (1, 1))],
)
def test_norms_over_windows_of_many_taps(window, stride, dilation):
    x = jnp.asarray(normal(1, 290, 13, 2), jnp.float32) * jnp.logspace(-15, 15, 290).reshape(1, -1, 1, 1)
    got = F.lp_pool(x, window, stride=stride, dilation=dilation, padding=1)
    with jax.enable_x64(True):
        wide = jnp.asarray(np.asarray(x, np.float64))
        options = {"stride": stride, "dilation": dilation, "padding": 1, "count_include_pad": True}
        expected = np.asarray(F.avg_pool(wide * wide, window, **options))
    np.testing.assert_allclose(got, np.sqrt(expected * np.prod(window)), rtol=3e-6)


def test_global_pools_reduce_all_positions():
    x = jnp.asarray(normal(2, 3, 4, 5, 6), jnp.float32)
    for spatial in (1, 2, 3):
        axes = tuple(range(4 - spatial, 4))
        np.testing.assert_array_equal(F.global_max_pool(x, spatial), x.max(axes))
        np.testing.assert_allclose(F.global_avg_pool(x, spatial), x.mean(axes), rtol=1e-5, atol=1e-6)
    assert F.global_max_pool(x.astype(int)).dtype == jnp.int32
    ties = jnp.zeros((2, 2, 1))
    np.testing.assert_array_equal(jax.grad(lambda x: F.global_max_pool(x).sum())(ties)[..., 0], [[1, 0], [0, 0]])


def test_a_window_may_be_a_list():
    x = jnp.asarray(normal(5, 6, 2), jnp.float32)
    np.testing.assert_array_equal(F.max_pool(x, [2, 3]), F.max_pool(x, (2, 3)))


x = jnp.ones((2, 6, 7, 4))

ERRORS = {
    "x without an axis": (
        x[0, 0],
        2,
        {},
        r"x: expected .*2 spatial .* window \(2, 2\) says, got .*\(7, 4\); for seq.* as \(2,\)\.",
    ),
    "one sequence of a batch": (x[:1, 0], 2, {}, r"window: expected .* axis 0, .*; for sequences, .* as \(2,\)\."),
    "window of nothing": (x, 0, {}, "window: expected at least 1 .*got 0"),
    "window of a float": (x, 2.0, {}, r"window: expected an int .*got 2\.0"),
    "no window": (x, (), {}, r"window: expected an entry for at least one spatial axis, got \(\)"),
    "stride": (x, 2, {"stride": 0}, "stride: expected at least 1 .*got 0"),
    "stride for other axes": (x, 2, {"stride": (1, 1, 1)}, "stride: expected one entry per spatial axis, 2, got 3"),
    "dilation": (x, 2, {"dilation": -1}, "dilation: expected at least 1 .*got -1"),
    "padding": (x, 2, {"padding": "FULL"}, "padding: expected one of 'SAME'.*got 'FULL'"),
    "negative padding": (x, 2, {"padding": -1}, "padding: expected no negative number"),
    "padding of a whole window": (
        x,
        2,
        {"padding": 2},
        r"padding: expected less .*extent of 2 along spatial axis 0, got \(2, 2\)",
    ),
    "padding of one side": (x, 2, {"padding": ((0, 0), (0, 3))}, r"padding: expected less .* axis 1, got \(0, 3\)"),
    "window beyond x": (
        x,
        (7, 2),
        {},
        "window: expected one that fits along spatial axis 0, where x has 6 elements .*got an extent of 7",
    ),
    "dilated beyond x": (x, 2, {"dilation": (1, 7)}, "window: .*along spatial axis 1, .*an extent of 8"),
    "complex": (x.astype(complex), 2, {}, "x: expected real numbers, got complex64"),
    "truths": (x > 0, 2, {}, "x: expected .*got bool"),
}


@pytest.mark.parametrize("pool", [F.max_pool, F.avg_pool, F.lp_pool])
@pytest.mark.parametrize(("x", "window", "options", "message"), ERRORS.values(), ids=ERRORS)
def test_what_does_not_fit_is_named(pool, x, window, options, message):
    with pytest.raises(ValueError, match=message):
        pool(x, window, **options)


@pytest.mark.parametrize("p", [0, 0.5, -1, float("inf"), float("nan"), True, "2"])
def test_what_is_no_norm_is_named(p):
    with pytest.raises(ValueError, match="p: expected a finite number of at least 1"):
        F.lp_pool(x, 2, p=p)


def test_a_traced_norm_is_named():
    with pytest.raises(ValueError, match=r"p: expected a number, got a traced value; .*static_argnames='p'"):
        jax.jit(lambda p: F.lp_pool(x, 2, p=p))(2.0)


@pytest.mark.parametrize("pool", [F.avg_pool, F.lp_pool])
def test_integers_have_no_mean(pool):
    with pytest.raises(ValueError, match="x: expected a floating dtype, got int32"):
        pool(x.astype(int), 2)
    with pytest.raises(ValueError, match="x: expected a floating dtype, got int32"):
        F.global_avg_pool(x.astype(int))


@pytest.mark.parametrize("pool", [F.global_max_pool, F.global_avg_pool])
@pytest.mark.parametrize(
    ("x", "spatial", "message"),
    [
        (x, 0, "spatial: expected a whole number of at least 1, got 0"),
        (x, True, "spatial: expected a whole number of at least 1, got True"),
        (x, (1, 2), r"spatial: expected a whole number of at least 1, got \(1, 2\)"),
        (x, 4, r"x: expected .*4 spatial axes, got shape \(2, 6, 7, 4\)"),
        (x[:, :0], 2, r"x: expected spatial axes of at least 1 element, got \(0, 7\)"),
    ],
)
def test_what_no_global_pool_can_do_is_named(pool, x, spatial, message):
    with pytest.raises(ValueError, match=message):
        pool(x, spatial)
