"""Convolution against PyTorch, SciPy and Flax, and what it promises about itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn import functional as F
from tests.functional.compare import assert_as_torch, normal

# spatial size, window, (in, out) channels, (low, high) padding, options of both
AGAINST_TORCH = {
    "1d": ((9,), (4,), (3, 5), ((2, 1),), {}),
    "1d, strided and dilated": ((11,), (3,), (2, 3), ((0, 4),), {"stride": (2,), "dilation": (3,)}),
    "2d": ((6, 7), (3, 3), (3, 4), ((1, 1), (1, 1)), {}),
    "2d, everything": ((9, 8), (3, 2), (4, 6), ((2, 0), (1, 3)), {"stride": (2, 3), "dilation": (2, 1), "groups": 2}),
    "2d, depthwise": ((6, 5), (3, 3), (4, 8), ((1, 1), (1, 1)), {"groups": 4, "stride": (1, 2)}),
    "2d, pointwise": ((4, 5), (1, 1), (5, 3), ((0, 0), (0, 0)), {}),
    "2d, many channels": ((6, 5), (3, 3), (18, 4), ((1, 1), (1, 1)), {"stride": (2, 1)}),
    "2d, many channels in groups": ((5, 5), (3, 2), (34, 4), ((1, 0), (0, 1)), {"groups": 2}),
    "2d, reflect": ((6, 5), (3, 4), (2, 3), ((2, 3), (1, 0)), {"pad_mode": "reflect"}),
    "2d, replicate": ((4, 5), (5, 3), (2, 3), ((5, 3), (1, 6)), {"pad_mode": "replicate", "stride": (2, 1)}),
    "2d, circular": ((4, 5), (3, 4), (2, 2), ((3, 2), (0, 4)), {"pad_mode": "circular", "groups": 2}),
    "1d, reflect": ((6,), (5,), (2, 3), ((4, 5),), {"pad_mode": "reflect", "dilation": (2,)}),
    "3d": ((4, 5, 4), (2, 3, 2), (2, 4), ((1, 0), (1, 1), (0, 2)), {"stride": (2, 1, 1), "groups": 2}),
    "3d, circular": ((3, 4, 3), (2, 3, 3), (2, 2), ((1, 0), (1, 1), (2, 1)), {"pad_mode": "circular"}),
}


@pytest.mark.parametrize(
    ("size", "window", "channels", "pairs", "options"), AGAINST_TORCH.values(), ids=AGAINST_TORCH.keys()
)
def test_value_and_gradients_are_those_of_pytorch(size, window, channels, pairs, options):
    """With a bias; `test_any_geometry_is_that_of_pytorch` has none."""
    n, (inputs, outputs) = len(size), channels
    options = {"stride": (1,) * n, "dilation": (1,) * n, "groups": 1, "pad_mode": "zeros"} | options
    kernel = normal(*window, inputs // options["groups"], outputs, seed=1)
    arrays = [normal(2, *size, inputs), kernel, normal(outputs, seed=2)]
    assert_as_torch("conv", arrays, options | {"padding": pairs}, options | {"pairs": pairs})


@st.composite
def convolutions(draw):
    """Shapes and options of a convolution, its padding given as numbers."""
    n = draw(st.integers(1, 2))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per_axis = lambda low, high: st.tuples(*[st.integers(low, high)] * n)  # noqa: E731
    window, stride, dilation = draw(per_axis(1, 3)), draw(per_axis(1, 3)), draw(per_axis(1, 2))
    pairs = draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * n))
    extent = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    least = [max(1, e - low - high) for e, (low, high) in zip(extent, pairs, strict=True)]
    size = tuple(low + draw(st.integers(0, 4)) for low in least)
    channels = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 2))
    return size, window, channels, pairs, {"stride": stride, "dilation": dilation, "groups": groups}


@given(convolutions())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_any_geometry_is_that_of_pytorch(drawn):
    size, window, (inputs, outputs), pairs, options = drawn
    arrays = [normal(2, *size, inputs), normal(*window, inputs // options["groups"], outputs, seed=1)]
    assert_as_torch("conv", arrays, options | {"padding": pairs}, options | {"pairs": pairs})


@pytest.mark.parametrize("mode", ["full", "valid"])
@pytest.mark.parametrize("shapes", [((9,), (4,)), ((6, 7), (3, 2)), ((4, 3, 5), (2, 3, 2))], ids=["1d", "2d", "3d"])
def test_true_convolution_and_correlation_are_those_of_scipy(shapes, mode):
    with jax.enable_x64(True):
        x, k = normal(*shapes[0]), normal(*shapes[1], seed=1)
        padding = "VALID" if mode == "valid" else [(size - 1, size - 1) for size in k.shape]
        flipped = F.true_convolution(jnp.asarray(x)[..., None], jnp.asarray(k)[..., None, None], padding=padding)
        np.testing.assert_allclose(flipped[..., 0], scipy.signal.convolve(x, k, mode, method="direct"), rtol=1e-12)
        plain = F.conv(jnp.asarray(x)[..., None], jnp.asarray(k)[..., None, None], padding=padding)
        np.testing.assert_allclose(plain[..., 0], scipy.signal.correlate(x, k, mode, method="direct"), rtol=1e-12)


def test_true_convolution_commutes_and_passes_its_options_on():
    a, b = (jnp.asarray(normal(5, seed=seed), jnp.float32) for seed in (0, 1))
    one = F.true_convolution(a[:, None], b[:, None, None], padding=4)
    other = F.true_convolution(b[:, None], a[:, None, None], padding=4)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    biased = F.true_convolution(a[:, None], b[:, None, None], jnp.ones(1), padding=4, stride=2)
    np.testing.assert_allclose(biased, one[::2] + 1, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("flax_padding", "ours"),
    [("SAME", {}), ("VALID", {"padding": "VALID"}), ("CIRCULAR", {"pad_mode": "circular"}), (2, {"padding": 2})],
    ids=str,
)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 2), (2, 1)])
def test_it_is_the_convolution_of_flax(flax_padding, ours, stride, dilation):
    layer = nnx.Conv(
        4,
        6,
        (3, 2),
        strides=stride,
        padding=flax_padding,
        kernel_dilation=dilation,
        feature_group_count=2,
        rngs=nnx.Rngs(0),
    )
    x = jnp.asarray(normal(2, 9, 8, 4), jnp.float32)
    if flax_padding == "CIRCULAR" and stride > 1:
        # Flax pads for stride 1 whatever the stride is; "SAME" here is ceil(size / stride).
        ours = ours | {"padding": [(dilation, dilation), (dilation // 2, dilation - dilation // 2)]}
    y = F.conv(x, layer.kernel[...], layer.bias[...], stride=stride, dilation=dilation, groups=2, **ours)
    np.testing.assert_allclose(y, layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2])
def test_causal_padding_is_that_of_flax_and_sees_no_later_input(dilation):
    layer = nnx.Conv(3, 5, (3,), padding="CAUSAL", kernel_dilation=dilation, rngs=nnx.Rngs(0))
    x = jnp.asarray(normal(2, 9, 3), jnp.float32)

    def causal(x):
        return F.conv(x, layer.kernel[...], layer.bias[...], padding="CAUSAL", dilation=dilation)

    np.testing.assert_allclose(causal(x), layer(x), rtol=1e-5, atol=1e-5)
    seen = jnp.abs(jax.jacrev(lambda x: causal(x).sum((0, -1)))(x)).sum((1, 3)) > 0
    assert not np.triu(seen, 1).any()
    assert np.diag(seen).all()


@pytest.mark.parametrize("size", [1, 4, 5, 8])
@pytest.mark.parametrize(("window", "stride", "dilation"), [(1, 1, 1), (2, 1, 1), (3, 2, 1), (2, 3, 2), (5, 4, 3)])
def test_same_gives_ceil_of_size_over_stride_and_only_the_odd_side_differs(size, window, stride, dilation):
    x, k = jnp.asarray(normal(size, 1), jnp.float32), jnp.asarray(normal(window, 1, 1, seed=1), jnp.float32)
    options = {"stride": stride, "dilation": dilation}
    y = F.conv(x, k, padding="SAME", **options)
    assert y.shape == (-(-size // stride), 1)
    mirrored = F.conv(x[::-1], k[::-1], padding="SAME_LOWER", **options)
    if (size - 1) % stride == 0:  # else the last window does not end where the mirrored first one starts
        total = max(0, (-(-size // stride) - 1) * stride + dilation * (window - 1) + 1 - size)
        low = total // 2
        np.testing.assert_array_equal(y, F.conv(x, k, padding=[(low, total - low)], **options))
        np.testing.assert_allclose(mirrored[::-1], y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "CAUSAL", 1, ((0, 2), (1, 0))], ids=str)
def test_every_amount_goes_with_every_mode(mode, padding):
    """The mode says what is padded, the amount how much: it is the "VALID" convolution of the padded array."""
    x, k = jnp.asarray(normal(5, 6, 2), jnp.float32), jnp.asarray(normal(3, 2, 2, 3, seed=1), jnp.float32)
    pairs = {
        "SAME": ((1, 1), (0, 1)),
        "SAME_LOWER": ((1, 1), (1, 0)),
        "CAUSAL": ((2, 0), (1, 0)),
        1: ((1, 1), (1, 1)),
    }.get(padding, padding)
    numpy_mode = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}.get(mode, mode)
    padded = jnp.asarray(np.pad(x, (*pairs, (0, 0)), mode=numpy_mode))
    expected = F.conv(padded, k, padding="VALID")
    np.testing.assert_allclose(F.conv(x, k, padding=padding, pad_mode=mode), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("layer", [F.conv, F.conv_transpose])
def test_the_gradient_of_a_bias_is_a_sum_in_float32(layer, dtype):
    x, kernel = jnp.ones((16, 40, 40, 1), dtype), jnp.zeros((3, 3, 1, 1), dtype)
    gradient = jax.grad(lambda b: layer(x, kernel, b).astype(jnp.float32).mean())(jnp.zeros(1, dtype))
    assert gradient.dtype == dtype
    np.testing.assert_allclose(np.asarray(gradient, np.float32), [1], rtol=1e-2)  # 1 / 25600 is rounded


@pytest.mark.parametrize("groups", [1, 2])
def test_what_members_of_a_map_share_sums_in_float32(groups):
    """512 kernels see one picture, in half precision."""
    x, kernels = jnp.ones((1, 4, 4), jnp.bfloat16), jnp.ones((512, 3, 4 // groups, 2), jnp.bfloat16)

    def loss(x):
        y = jax.vmap(lambda kernel: F.conv(x, kernel, padding="VALID", groups=groups))(kernels)
        return y.astype(jnp.float32).sum()

    each = 512 * 2 / groups
    np.testing.assert_array_equal(jax.grad(loss)(x)[0, :, 0].astype(jnp.float32), [each, 2 * each, 2 * each, each])


x, k = jnp.ones((2, 6, 7, 4)), jnp.ones((3, 2, 4, 6))

ERRORS = {
    "kernel without a window": ((x, jnp.ones((4, 6))), {}, r"kernel: expected .*got shape \(4, 6\)"),
    "x without an axis": ((jnp.ones((6, 4)), k), {}, r"x: expected .*2 spatial axes.*got shape \(6, 4\)"),
    "channels": ((x, jnp.ones((3, 2, 5, 6))), {}, r"x: expected .*spatial, 5\) for a kernel of shape \(3, 2, 5, 6\)"),
    "channels first": ((jnp.moveaxis(x, -1, -3), k), {}, r"channels come last: jnp\.moveaxis\(x, -3, -1\)"),
    "no channel axis": ((x[..., 0], k[:, :, :1]), {}, r"a channel axis is missing: x\[\.\.\., None\]"),
    "nor a batch": ((x[0, ..., 0], k[:, :, :1]), {}, r"a channel axis is missing: x\[\.\.\., None\]"),
    "channels in groups": ((x, k), {"groups": 2}, r"x: expected .*spatial, 8\) for a kernel of shape \(3, 2, 4, 6\)"),
    "groups and inputs": (
        (x, k),
        {"groups": 3},
        "groups: expected a divisor of the 4 input and 6 output channels, got 3",
    ),
    "groups and outputs": (
        (x, jnp.ones((3, 2, 1, 6))),
        {"groups": 4},
        "groups: expected a divisor of the 4 input and 6 output channels, got 4",
    ),
    "padding in small letters": ((x, k), {"padding": "same"}, r"padding: expected .*got 'same'; write 'SAME'\."),
    "a mode as the padding": (
        (x, k),
        {"padding": "CIRCULAR"},
        "'CIRCULAR'; conv, conv_transpose and conv_lstm take pad_mode='circular'",
    ),
    "groups of none": ((x, k), {"groups": 0}, "groups: expected a whole number of at least 1, got 0"),
    "groups of a float": ((x, k), {"groups": 2.0}, r"groups: expected a whole number of at least 1, got 2\.0"),
    "groups of a truth": ((x, k), {"groups": True}, "groups: expected a whole number of at least 1, got True"),
    "empty window": ((x, jnp.ones((3, 0, 4, 6))), {}, r"kernel: expected a window .*got \(3, 0\)"),
    "bias": ((x, k, jnp.ones(5)), {}, r"bias: expected .*shape \(6,\), got \(5,\)"),
    "bias of one": ((x, k, jnp.ones(1)), {}, r"bias: expected .*shape \(6,\), got \(1,\)"),
    "bias with a batch": ((x, k, jnp.ones((2, 6))), {}, r"bias: expected .*got \(2, 6\)"),
    "stride of nothing": ((x, k), {"stride": 0}, "stride: expected at least 1 .*got 0"),
    "stride for other axes": (
        (x, k),
        {"stride": (1, 2, 1)},
        r"stride: expected one entry per spatial axis, 2, got 3",
    ),
    "stride of a float": ((x, k), {"stride": 1.5}, r"stride: expected an int .*got 1\.5"),
    "stride of words": ((x, k), {"stride": "ab"}, "stride: expected an int .*got 'ab'"),
    "negative dilation": ((x, k), {"dilation": (1, -1)}, r"dilation: expected at least 1 .*got \(1, -1\)"),
    "unknown padding": ((x, k), {"padding": "FULL"}, "padding: expected one of 'SAME'.*got 'FULL'"),
    "padding for other axes": ((x, k), {"padding": ((1, 1),)}, r"padding: expected .*got \(\(1, 1\),\)"),
    "padding of numbers": (
        (x, k),
        {"padding": (1, 2)},
        r"got \(1, 2\); write \(\(1, 1\), \(2, 2\)\)\.",
    ),
    "padding of a float": ((x, k), {"padding": 0.5}, r"padding: expected .*got 0\.5"),
    "no padding": ((x, k), {"padding": None}, "padding: expected .*got None"),
    "negative padding": ((x, k), {"padding": -1}, "padding: expected no negative number, got -1"),
    "negative pair": ((x, k), {"padding": ((0, -1), (0, 0))}, "padding: expected no negative number"),
    "unknown mode": ((x, k), {"pad_mode": "edge"}, "pad_mode: expected one of 'zeros'.*got 'edge'"),
    "too long to reflect": (
        (x, k),
        {"padding": 6, "pad_mode": "reflect"},
        r"padding: .*reflect.* spatial axis 0, got \(6, 6\)",
    ),
    "too long to wrap": (
        (x, k),
        {"padding": 7, "pad_mode": "circular"},
        r"padding: .*circular.* spatial axis 0, got \(7, 7\)",
    ),
    "window beyond x": (
        (x, jnp.ones((7, 2, 4, 6))),
        {"padding": "VALID"},
        "kernel: expected a window that fits along spatial axis 0",
    ),
    "dilated beyond x": (
        (x, k),
        {"padding": "VALID", "dilation": (1, 7)},
        "along spatial axis 1, .*got an extent of 8",
    ),
    "integers": ((x.astype(int), k), {}, "x: expected a floating dtype, got int32"),
    "truths": ((x.astype(bool), k), {}, "x: expected a floating dtype, got bool"),
    "complex": ((x, k.astype(complex)), {}, "kernel: expected real numbers, got complex64"),
    "mixed": ((x, k.astype(jnp.bfloat16)), {}, "x, kernel: expected one dtype, got x float32, kernel bfloat16"),
    "mixed bias": ((x, k, jnp.ones(6, jnp.float16)), {}, "expected one dtype, got .*bias float16"),
}


@pytest.mark.parametrize(("arrays", "options", "message"), ERRORS.values(), ids=ERRORS)
def test_what_does_not_fit_is_named(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        F.conv(*arrays, **options)
    with pytest.raises(ValueError, match=message):  # while tracing, too
        jax.eval_shape(lambda *arrays: F.conv(*arrays, **options), *arrays)
