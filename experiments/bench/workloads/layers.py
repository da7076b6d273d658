"""Single layers of different sizes in jaxnn, plain `jax.lax` and PyTorch, called from Python or in a compiled loop."""

import math
from typing import NamedTuple

from experiments.bench.case import Case, Settings, Side

CALLS = 2


class Layer(NamedTuple):
    """A layer and the shape of its input."""

    kind: str
    x: tuple[int, ...]
    window: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    stride: int = 1
    groups: int = 1
    first: bool = False
    """Whether it is the first layer of a network, whose input needs no gradient."""

    @property
    def gradients(self) -> str:
        """The gradients that a training step computes: "input", "kernel" or "both"."""
        if self.kind != "conv":
            return "input"
        return "kernel" if self.first else "both"

    def flops(self, *, train: bool) -> float | None:
        """Floating-point operations of a call; None for pools, which have no products."""
        if self.kind != "conv":
            return None
        places = [
            (size + low + high - extent) // self.stride + 1
            for size, extent, (low, high) in zip(self.x[1:-1], self.window[:-2], self.padding, strict=True)
        ]
        forward = 2.0 * self.x[0] * math.prod(places) * math.prod(self.window)
        return forward * ({"kernel": 2, "both": 3}[self.gradients] if train else 1)


def _conv(x: tuple[int, ...], size: int, out: int, *, stride: int = 1, groups: int = 1, first: bool = False) -> Layer:
    """A convolution with a square kernel and the same padding on both sides."""
    window = (*(size,) * (len(x) - 2), x[-1] // groups, out)
    return Layer("conv", x, window, ((size // 2, size // 2),) * (len(x) - 2), stride, groups, first)


LAYERS = {
    "3x3, 16x16x64 to 64": _conv((32, 16, 16, 64), 3, 64),
    "1x1, 16x16x64 to 256": _conv((32, 16, 16, 64), 1, 256),
    "depthwise 3x3, 28x28x96": _conv((16, 28, 28, 96), 3, 96, groups=96),
    "stem 7x7/2, 224x224x3 to 64": _conv((4, 224, 224, 3), 7, 64, stride=2, first=True),
    "max pool 3x3/2, 112x112x64": Layer("max_pool", (4, 112, 112, 64), (3, 3), ((1, 1), (1, 1)), 2),
    "max pool 2x2, 30x30x32": Layer("max_pool", (128, 30, 30, 32), (2, 2), ((0, 0), (0, 0)), 2),
    "causal 1d of 3, 256x64 to 64": Layer("conv", (16, 256, 64), (3, 64, 64), ((2, 0),)),
    "3x3, 32x32x3 to 32": _conv((128, 32, 32, 3), 3, 32, first=True),
    "3x3, 56x56x64 to 64": _conv((4, 56, 56, 64), 3, 64),
    "3x3/2, 28x28x128 to 128": _conv((8, 28, 28, 128), 3, 128, stride=2),
    "5x5, 28x28x32 to 64": _conv((16, 28, 28, 32), 5, 64),
    "7x7, 14x14x64 to 64": _conv((16, 14, 14, 64), 7, 64),
    "depthwise 7x7, 28x28x96": _conv((8, 28, 28, 96), 7, 96, groups=96),
    "5x5, 28x28x1 to 32": _conv((64, 28, 28, 1), 5, 32, first=True),
    "depthwise 3x3, 14x14x96 to 192": _conv((16, 14, 14, 96), 3, 192, groups=96),
    "groups of 4, 3x3, 14x14x128": _conv((16, 14, 14, 128), 3, 128, groups=32),
    "3x3x3, 12x12x12x16 to 32": _conv((4, 12, 12, 12, 16), 3, 32),
    "tiles 4x4/4, 64x64x32 to 64": Layer("conv", (4, 64, 64, 32), (4, 4, 32, 64), ((0, 0), (0, 0)), 4),
    "groups of 32, 3x3, 14x14x256": _conv((16, 14, 14, 256), 3, 256, groups=8),
    "avg pool 3x3/2, 56x56x64": Layer("avg_pool", (8, 56, 56, 64), (3, 3), ((0, 0), (0, 0)), 2),
    "avg pool 2x2, 32x32x64": Layer("avg_pool", (32, 32, 32, 64), (2, 2), ((0, 0), (0, 0)), 2),
}
QUICK = 3
"""Number of layers with `--quick`."""

SIDES = (
    *(
        Side(f"{library}, {where}", ".jax_layers:layer", "jax", {"plain": library != "jaxnn", "looped": looped})
        for where, looped in (("in a loop", True), ("called", False))
        for library in ("jaxnn", "jax.lax")
    ),
    Side("PyTorch", ".torch_layers:layer", "torch"),
)


def cases(settings: Settings) -> list[Case]:
    """The outputs alone, and the outputs with gradients."""
    found = []
    for title, layer in list(LAYERS.items())[: QUICK if settings.quick else None]:
        options = {name: value for name, value in layer._asdict().items() if name != "first"}
        for train in (True,) if settings.quick else (False, True):
            gradients = layer.gradients if train else ""
            name = f"{title}, {'gradients' if train else 'forward'}"
            both = {**options, "gradients": gradients, "calls": CALLS}
            found.append(Case(name, SIDES, both, CALLS, layer.flops(train=train), weight=1 + train))
    return found
