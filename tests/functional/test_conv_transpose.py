"""The transposed convolution against PyTorch and JAX, and as the transpose of `conv`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn import functional as F
from jaxnn.functional import paddings
from tests.functional.compare import assert_as_torch, normal

# spatial size, window, (in, out) channels, options of both
AGAINST_TORCH = {
    "1d": ((5,), (4,), (3, 2), {"stride": (2,), "padding": (1,)}),
    "1d, with more output": ((5,), (3,), (2, 3), {"stride": (3,), "padding": (2,), "output_padding": (2,)}),
    "2d": ((4, 5), (3, 3), (3, 4), {}),
    "2d, everything": (
        (4, 3),
        (3, 2),
        (4, 6),
        {"stride": (2, 3), "padding": (2, 0), "output_padding": (1, 2), "dilation": (2, 1), "groups": 2},
    ),
    "2d, stride beyond the window": ((3, 4), (2, 1), (2, 3), {"stride": (3, 4), "output_padding": (2, 3)}),
    "2d, output padding from dilation": ((3, 4), (2, 2), (2, 3), {"dilation": (3, 2), "output_padding": (2, 1)}),
    "1d, output padding of many strides": (
        (4,),
        (3,),
        (2, 2),
        {"dilation": (5,), "stride": (2,), "output_padding": (4,)},
    ),
    "1d, output padding that was cropped": (
        (4,),
        (3,),
        (2, 2),
        {"dilation": (4,), "padding": (1,), "output_padding": (3,)},
    ),
    "2d, depthwise": ((4, 4), (3, 3), (4, 4), {"stride": (2, 2), "padding": (1, 1), "groups": 4}),
    "2d, many channels": ((3, 4), (3, 3), (20, 18), {"stride": (2, 1), "padding": (1, 0)}),
    "3d": ((2, 3, 2), (2, 3, 2), (2, 4), {"stride": (2, 1, 2), "padding": (0, 1, 1), "groups": 2}),
}


@pytest.mark.parametrize(("size", "window", "channels", "options"), AGAINST_TORCH.values(), ids=AGAINST_TORCH.keys())
def test_value_and_gradients_are_those_of_pytorch(size, window, channels, options):
    """With a bias; the transposes and gradients below have none."""
    n, (inputs, outputs) = len(size), channels
    plain = {"stride": (1,) * n, "padding": (0,) * n, "output_padding": (0,) * n, "dilation": (1,) * n, "groups": 1}
    options = plain | options
    kernel = normal(*window, inputs, outputs // options["groups"], seed=1)
    arrays = [normal(2, *size, inputs), kernel, normal(outputs, seed=2)]
    ours = options | {"padding": [(p, p) for p in options["padding"]]}
    assert_as_torch("conv_transpose", arrays, ours, options)


@st.composite
def convolutions(draw):
    """A convolution, and the output padding with which its transpose gives its input's size again."""
    n = draw(st.integers(1, 2))
    groups = draw(st.sampled_from([1, 1, 2]))
    per_axis = lambda low, high: st.tuples(*[st.integers(low, high)] * n)  # noqa: E731
    window, stride, dilation = draw(per_axis(1, 3)), draw(per_axis(1, 4)), draw(per_axis(1, 2))
    extent = tuple(d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True))
    padding = draw(st.sampled_from(["SAME", "SAME_LOWER", "VALID", "int", "pairs"]))
    if padding.startswith("SAME"):
        size = tuple(s * draw(st.integers(1, 3)) for s in stride)
        extra = 0
    else:
        if padding == "int":
            padding = draw(st.integers(0, 2))
        pairs = {"VALID": ((0, 0),) * n, "pairs": None}.get(padding, ((padding, padding),) * n)
        if pairs is None:
            padding = pairs = draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * n))
        least = [max(1, e - low - high) for e, (low, high) in zip(extent, pairs, strict=True)]
        size = tuple(low + draw(st.integers(0, 4)) for low in least)
        steps = zip(size, extent, pairs, stride, strict=True)
        extra = tuple((length + low + high - e) % s for length, e, (low, high), s in steps)
    channels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    pads = paddings.pairs_of(padding, size, window, stride, dilation)
    spare = min(n - max(pair) for n, pair in zip(size, pads, strict=True))
    modes = ["zeros", "replicate"] + ["circular"] * 2 * (spare >= 0) + ["reflect"] * 2 * (spare > 0)
    options = {"stride": stride, "dilation": dilation, "groups": groups, "padding": padding}
    options["pad_mode"] = draw(st.sampled_from(modes))
    return size, window, channels, extra, options


@given(convolutions())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_it_is_the_transpose_of_conv_with_the_same_numbers(drawn):
    r"""⟨conv(x, k), y⟩ = ⟨x, conv_transpose(y, kᵀ)⟩."""
    size, window, (inputs, outputs), extra, options = drawn
    with jax.enable_x64(True):
        x, k = normal(2, *size, inputs), normal(*window, inputs // options["groups"], outputs, seed=1)
        shape = jax.eval_shape(lambda x, k: F.conv(x, k, **options), x, k).shape
        y = normal(*shape, seed=2)

        @jax.jit
        def both(x, k, y):
            forward = F.conv(x, k, **options)
            return forward, F.conv_transpose(y, jnp.swapaxes(k, -1, -2), output_padding=extra, **options)

        forward, back = both(x, k, y)
        assert back.shape == x.shape
        np.testing.assert_allclose(np.vdot(forward, y), np.vdot(x, back), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("window", "stride"), [((3, 3), (1, 1)), ((3, 4), (2, 3)), ((2, 5), (2, 2)), ((2, 1), (3, 3))])
def test_it_is_the_gradient_that_jax_names_conv_transpose(padding, window, stride):
    x, k = jnp.asarray(normal(2, 4, 5, 3), jnp.float32), jnp.asarray(normal(*window, 3, 2, seed=1), jnp.float32)
    expected = jax.lax.conv_transpose(
        x, jnp.swapaxes(k, -1, -2), stride, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), transpose_kernel=True
    )
    beyond = [max(0, s - size) if padding == "VALID" else 0 for size, s in zip(window, stride, strict=True)]
    got = F.conv_transpose(x, k, stride=stride, padding=padding, output_padding=beyond)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transpose_kernel", [True, False])
@pytest.mark.parametrize(("window", "stride"), [((3, 4), (2, 1)), ((2, 3), (3, 3))])
def test_circular_padding_is_that_of_flax(window, stride, transpose_kernel):
    options = {"strides": stride, "padding": "CIRCULAR", "transpose_kernel": transpose_kernel}
    layer = nnx.ConvTranspose(3, 2, window, **options, bias_init=jax.random.normal, rngs=nnx.Rngs(0))
    kernel, padding = jnp.flip(layer.kernel[...], (0, 1)), "SAME"
    if transpose_kernel:
        kernel, padding = jnp.swapaxes(layer.kernel[...], -1, -2), "SAME_LOWER"
    x = jnp.asarray(normal(2, 4, 5, 3), jnp.float32)
    got = F.conv_transpose(x, kernel, layer.bias[...], stride=stride, padding=padding, pad_mode="circular")
    np.testing.assert_allclose(got, layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("window", "stride", "dilation"), [(3, 1, 1), (4, 2, 1), (2, 3, 1), (3, 2, 2)])
def test_causal_sees_no_later_input_and_is_size_times_stride_long(window, stride, dilation):
    x, k = jnp.asarray(normal(5, 1), jnp.float32), jnp.ones((window, 1, 1))

    def causal(x):
        return F.conv_transpose(x, k, padding="CAUSAL", stride=stride, dilation=dilation)

    seen = jnp.abs(jax.jacrev(causal)(x))[:, 0, :, 0] > 0
    assert seen.shape == (5 * stride, 5)
    for j in range(5 * stride):
        assert not seen[j, j // stride + 1 :].any()
        assert seen[j].any() == (j % stride in [dilation * t % stride for t in range(window)])


x, k = jnp.ones((2, 6, 7, 4)), jnp.ones((3, 2, 4, 6))

ERRORS = {
    "kernel without a window": ((x, jnp.ones((4, 6))), {}, r"kernel: expected .*got shape \(4, 6\)"),
    "x without an axis": ((jnp.ones((6, 4)), k), {}, r"x: expected .*2 spatial axes.*got shape \(6, 4\)"),
    "channels": ((x, jnp.ones((3, 2, 5, 6))), {}, r"x: expected .*spatial, 5\) for a kernel of shape \(3, 2, 5, 6\)"),
    "empty window": ((x, jnp.ones((0, 2, 4, 6))), {}, r"kernel: expected a window .*got \(0, 2\)"),
    "groups": ((x, k), {"groups": 3}, "groups: expected a divisor of the 4 input channels, got 3"),
    "kernel of conv": (
        (x, jnp.ones((3, 1, 4))),
        {"groups": 4},
        r"groups: .* 1 input .* are \(\*window, in, out / groups\)",
    ),
    "groups of none": ((x, k), {"groups": -1}, "groups: expected a whole number of at least 1, got -1"),
    "bias": ((x, k, jnp.ones(6)), {"groups": 2}, r"bias: expected .*shape \(12,\), got \(6,\)"),
    "stride": ((x, k), {"stride": (2, 0)}, r"stride: expected at least 1 .*got \(2, 0\)"),
    "dilation": ((x, k), {"dilation": (2,)}, "dilation: expected one entry per spatial axis, 2, got 1"),
    "unknown padding": ((x, k), {"padding": "FULL"}, "padding: expected one of 'SAME'.*got 'FULL'"),
    "negative padding": ((x, k), {"padding": ((0, 0), (-1, 0))}, "padding: expected no negative number"),
    "cropped away": (
        (x, k),
        {"padding": 9},
        r"padding: expected one that crops no more than the output has, got \(\(9, 9\), \(9, 9\)\)",
    ),
    "output padding": ((x, k), {"padding": 0, "output_padding": 1}, r"output_padding: expected less .*got \(1, 1\)"),
    "negative output padding": ((x, k), {"output_padding": -1}, "output_padding: expected at least 0"),
    "output padding and a name": (
        (x, k),
        {"stride": 2, "output_padding": 1},
        "output_padding: expected 0 with.*'SAME'",
    ),
    "output padding beyond the stride": (
        (x, k),
        {"padding": 1, "dilation": 2, "output_padding": 1, "pad_mode": "circular"},
        "output_padding: expected less .*with pad_mode='zeros'.*got",
    ),
    "unknown mode": ((x, k), {"pad_mode": "wrap"}, "pad_mode: expected one of 'zeros'.*got 'wrap'"),
    "too long to wrap": (
        (x, jnp.ones((20, 2, 4, 6))),
        {"pad_mode": "circular"},
        r"padding: .*'circular'.*got \(9, 10\)",
    ),
    "integers": ((x.astype(int), k), {}, "x: expected a floating dtype, got int32"),
    "mixed": ((x, k.astype(jnp.bfloat16)), {}, "expected one dtype, got x float32, kernel bfloat16"),
}


@pytest.mark.parametrize(("arrays", "options", "message"), ERRORS.values(), ids=ERRORS)
def test_what_does_not_fit_is_named(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        F.conv_transpose(*arrays, **options)
