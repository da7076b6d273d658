"""PyTorch's layers, channels last and in float64, with their gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is one of the oracles; install torch to compare with it")
TF = torch.nn.functional

PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def channels_first(x):
    return torch.movedim(x, -1, 1)


def channels_last(x):
    return torch.movedim(x, 1, -1)


def padded(x, pairs, mode="zeros"):
    """`x` is channels first; PyTorch wants the last axis first."""
    flat = [v for pair in reversed(pairs) for v in pair]
    return TF.pad(x, flat, mode=PAD_MODES[mode]) if any(flat) else x


def conv(x, kernel, bias=None, *, stride, pairs, pad_mode="zeros", dilation, groups):
    n = x.ndim - 2
    weight = torch.permute(kernel, (n + 1, n, *range(n)))
    function = (TF.conv1d, TF.conv2d, TF.conv3d)[n - 1]
    x = padded(channels_first(x), pairs, pad_mode)
    return channels_last(function(x, weight, bias, stride=stride, dilation=dilation, groups=groups))


def conv_transpose(x, kernel, bias=None, *, stride, padding, output_padding, dilation, groups):
    n = x.ndim - 2
    weight = torch.permute(kernel, (n, n + 1, *range(n)))
    function = (TF.conv_transpose1d, TF.conv_transpose2d, TF.conv_transpose3d)[n - 1]
    y = function(
        channels_first(x),
        weight,
        bias,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )
    return channels_last(y)


def value_and_gradients(function, arrays, cotangent):
    """The value, and the gradients of every array."""
    tensors = [torch.tensor(np.asarray(array), requires_grad=True) for array in arrays]
    y = function(*tensors)
    gradients = torch.autograd.grad(y, tensors, torch.tensor(np.asarray(cotangent(tuple(y.shape)))))
    return [tensor.detach().numpy() for tensor in (y, *gradients)]


def dense(x, kernel, bias=None):
    return TF.linear(x, kernel.T, bias)


def pool(name):
    """`max_pool`, `avg_pool`, `lp_pool` and the adaptive ones, over as many axes as `x` has."""

    def function(x, *args, **options):
        return channels_last(getattr(TF, f"{name}{x.ndim - 2}d")(channels_first(x), *args, **options))

    return function


max_pool = pool("max_pool")
avg_pool = pool("avg_pool")
lp_pool = pool("lp_pool")
adaptive_avg_pool = pool("adaptive_avg_pool")
adaptive_max_pool = pool("adaptive_max_pool")
