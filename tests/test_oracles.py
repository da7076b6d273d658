"""The oracles are naive; that they are also right is shown against PyTorch, where it offers the same."""

import itertools

import numpy as np
import pytest

from tests import oracles

torch = pytest.importorskip("torch", reason="PyTorch is not installed; it judges the oracles")
functional = torch.nn.functional


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def to_torch(x):
    """Channels last to channels first."""
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def from_torch(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def kernel_to_torch(kernel):
    """``(*window, a, b)`` to ``(b, a, *window)``."""
    return torch.from_numpy(np.moveaxis(kernel, (-1, -2), (0, 1)).copy())


SIZES = {1: (7,), 2: (7, 5), 3: (4, 3, 5)}


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 2), (1, 2, 2, 1), (3, 1, 1, 4)]
)
def test_conv_agrees_with_torch(axes, stride, padding, dilation, groups):
    x, kernel, bias = draw(2, *SIZES[axes], 4), draw(*(3, 2, 2)[:axes], 4 // groups, 8), draw(8)
    expected = getattr(functional, f"conv{axes}d")(
        to_torch(x), kernel_to_torch(kernel), torch.from_numpy(bias), stride, padding, dilation, groups
    )
    got = oracles.conv(x, kernel, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    np.testing.assert_allclose(got, from_torch(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_conv_pads_as_torch_does_in_every_mode(mode):
    x, kernel = draw(2, 7, 5, 2), draw(3, 4, 2, 3)
    padded = functional.pad(to_torch(x), (1, 2, 2, 0), mode=mode)  # last axis first
    got = oracles.conv(x, kernel, padding=((2, 0), (1, 2)), pad_mode=mode)
    np.testing.assert_allclose(got, from_torch(functional.conv2d(padded, kernel_to_torch(kernel))), rtol=1e-12)


def test_conv_same_agrees_with_torch():
    x, kernel = draw(2, 7, 5, 2), draw(3, 4, 2, 3)
    expected = functional.conv2d(to_torch(x), kernel_to_torch(kernel), padding="same", dilation=(1, 2))
    got = oracles.conv(x, kernel, padding="SAME", dilation=(1, 2))
    np.testing.assert_allclose(got, from_torch(expected), rtol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    ("stride", "padding", "output_padding", "dilation", "groups"),
    [(1, 0, 0, 1, 1), (2, 1, 1, 1, 2), (1, 2, 0, 2, 1), (3, 1, 2, 1, 4)],
)
def test_conv_transpose_agrees_with_torch(axes, stride, padding, output_padding, dilation, groups):
    x, kernel, bias = draw(2, *SIZES[axes], 4), draw(*(3, 2, 2)[:axes], 4, 8 // groups), draw(8)
    weights = torch.from_numpy(np.moveaxis(kernel, (-2, -1), (0, 1)).copy())
    expected = getattr(functional, f"conv_transpose{axes}d")(
        to_torch(x), weights, torch.from_numpy(bias), stride, padding, output_padding, groups, dilation
    )
    got = oracles.conv_transpose(
        x,
        kernel,
        bias,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )
    np.testing.assert_allclose(got, from_torch(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "VALID", "CAUSAL"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 2), (4, 1)])
def test_conv_transpose_is_the_transpose_of_conv(padding, stride, dilation):
    """``<conv(u), v> = <u, conv_transpose(v)>``; "CAUSAL" is named for what the transpose itself depends on."""
    kernel = draw(3, 2, 4)
    options = {"stride": stride, "dilation": dilation}
    v = draw(5, 4)
    transposed = oracles.conv_transpose(v, np.swapaxes(kernel, -1, -2), padding=padding, **options)
    u = draw(*transposed.shape)
    if padding == "CAUSAL":
        extent = (3 - 1) * dilation + 1
        high = max(0, (v.shape[0] - 1) * stride + extent - u.shape[0])
        forward = oracles.conv(u, kernel, padding=((0, high),), **options)
    else:
        forward = oracles.conv(u, kernel, padding=padding, **options)
    assert forward.shape == v.shape
    np.testing.assert_allclose(np.vdot(forward, v), np.vdot(u, transposed), rtol=1e-12)


POOLS = list(itertools.product([1, 2, 3], [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 1), (3, 3, 0)], [False, True]))


@pytest.mark.parametrize(("axes", "sizes", "ceil_mode"), POOLS)
def test_max_pool_and_its_gradient_agree_with_torch(axes, sizes, ceil_mode):
    window, stride, padding = sizes
    # Few different values: many ties, of which the first must win.
    x = np.round(draw(2, *SIZES[axes], 2))
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    theirs = to_torch(x).requires_grad_()
    expected = getattr(functional, f"max_pool{axes}d")(theirs, window, **options)
    got = oracles.max_pool(x, (window,) * axes, **options)
    np.testing.assert_array_equal(got, from_torch(expected))

    cotangent = draw(*got.shape)
    expected.backward(to_torch(cotangent))
    gradient = oracles.max_pool_gradient(x, cotangent, (window,) * axes, **options)
    np.testing.assert_allclose(gradient, from_torch(theirs.grad), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_dilated_max_pool_agrees_with_torch(ceil_mode):
    x = draw(2, 8, 7, 2)
    expected = functional.max_pool2d(to_torch(x), 3, 2, 1, 2, ceil_mode)
    got = oracles.max_pool(x, (3, 3), stride=2, padding=1, dilation=2, ceil_mode=ceil_mode)
    np.testing.assert_array_equal(got, from_torch(expected))


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize(("axes", "sizes", "ceil_mode"), POOLS)
def test_avg_pool_agrees_with_torch(axes, sizes, ceil_mode, count_include_pad):
    window, stride, padding = sizes
    x = draw(2, *SIZES[axes], 2)
    options = {
        "stride": stride,
        "padding": padding,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
    }
    expected = getattr(functional, f"avg_pool{axes}d")(to_torch(x), window, **options)
    np.testing.assert_allclose(oracles.avg_pool(x, (window,) * axes, **options), from_torch(expected), rtol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool_agrees_with_torch(p):
    x = np.abs(draw(2, 7, 5, 2))  # PyTorch takes the power of the signed value
    expected = functional.lp_pool2d(to_torch(x), p, 3, 2)
    got = oracles.lp_pool(x, (3, 3), p=p, stride=2)
    np.testing.assert_allclose(got, from_torch(expected), rtol=1e-12)


@pytest.mark.parametrize("output", [(1, 1), (2, 3), (5, 4), (7, 5), (9, 2)])
def test_adaptive_pools_agree_with_torch(output):
    x = draw(2, 7, 5, 2)
    for name in ("avg", "max"):
        expected = getattr(functional, f"adaptive_{name}_pool2d")(to_torch(x), output)
        got = getattr(oracles, f"adaptive_{name}_pool")(x, output)
        np.testing.assert_allclose(got, from_torch(expected), rtol=1e-12)


def test_global_pools_and_dense_agree_with_numpy():
    x, kernel = draw(2, 3, 4, 5), draw(5, 6)
    np.testing.assert_allclose(oracles.global_avg_pool(x), x.mean((1, 2)), rtol=1e-12)
    np.testing.assert_array_equal(oracles.global_max_pool(x, spatial=1), x.max(2))
    np.testing.assert_allclose(oracles.dense(x, kernel), x @ kernel, rtol=1e-12)
