"""Single layers in PyTorch, channels last."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from experiments.bench.case import Work


def layer(
    kind: str,
    x: Sequence[int],
    window: Sequence[int],
    stride: int,
    padding: Sequence[Sequence[int]],
    groups: int,
    gradients: str,
    calls: int,
) -> Work:
    """Calls of a layer, each on a different input; `jax_layers.layer` explains the arguments."""
    torch.manual_seed(0)
    axes = len(padding)
    function = _layer(kind, tuple(window[:axes]), stride, padding, groups)
    inputs = [_channels_first(torch.randn(*x)) for _ in range(calls)]
    # (*window, in, out) -> (out, in, *window)
    kernel = torch.randn(*window).mul(0.1).permute(-1, -2, *range(axes)).contiguous() if kind == "conv" else None
    if kernel is not None and axes == 2:
        kernel = kernel.contiguous(memory_format=torch.channels_last)
    cotangent = torch.randn_like(function(inputs[0], kernel))
    for each in inputs if gradients in ("input", "both") else []:
        each.requires_grad_()
    if kernel is not None and gradients in ("kernel", "both"):
        kernel.requires_grad_()

    def work() -> None:
        for each in inputs:
            if not gradients:
                with torch.inference_mode():
                    function(each, kernel)
            else:
                each.grad = None
                if kernel is not None:
                    kernel.grad = None
                function(each, kernel).backward(cotangent)

    return work


def _channels_first(x: Any) -> Any:
    """Moves the channels from the last to the second axis; the order in memory does not change."""
    return x.movedim(-1, 1).detach()


def _layer(
    kind: str, window: tuple[int, ...], stride: int, padding: Sequence[Sequence[int]], groups: int
) -> Callable[..., Any]:
    f, axes = torch.nn.functional, len(padding)
    even = all(low == high for low, high in padding)
    amount = tuple(low for low, _ in padding) if even else 0

    def padded(x: Any) -> Any:
        return x if even else f.pad(x, [n for pair in reversed(padding) for n in pair])

    if kind == "conv":
        conv = {1: f.conv1d, 2: f.conv2d}[axes]
        return lambda x, kernel: conv(padded(x), kernel, stride=stride, padding=amount, groups=groups)
    pool = {"max_pool": f.max_pool2d, "avg_pool": f.avg_pool2d}[kind]
    return lambda x, _: pool(x, window, stride=stride, padding=amount)
