"""Convolutions that between them take every path of the kernels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.kernels.geometry import ConvGeometry


@dataclasses.dataclass(frozen=True)
class Convolution:
    name: str
    spatial: tuple[int, ...]
    window: tuple[int, ...]
    channels: tuple[int, int]
    geometry: ConvGeometry

    def __str__(self):
        return self.name

    def out(self):
        return self.geometry.window(self.window).out(self.spatial)

    def arrays(self, batch=3, seed=0, dtype=None):
        """Input, kernel and a cotangent of the output."""
        rng = np.random.default_rng(seed)
        inputs, outputs = self.channels
        shapes = (
            (batch, *self.spatial, inputs),
            (*self.window, inputs // self.geometry.groups, outputs),
            (batch, *self.out(), outputs),
        )
        return tuple(jax.device_put(rng.normal(size=shape).astype(dtype or jnp.float64)) for shape in shapes)


def _case(name, spatial, window, channels, *, stride=1, padding=None, dilation=1, groups=1):
    n = len(spatial)
    stride, dilation = ((v,) * n if isinstance(v, int) else v for v in (stride, dilation))
    return Convolution(
        name, spatial, window, channels, ConvGeometry(stride, padding or ((0, 0),) * n, dilation, groups)
    )


FEW = _case("few channels", (5, 6), (3, 2), (3, 4), padding=((1, 1), (0, 1)))
FEW_GROUPS = _case("few, groups", (5, 4), (2, 3), (4, 6), groups=2, padding=((0, 1), (1, 1)))
MANY = _case("many channels", (5, 4), (3, 3), (17, 5), padding=((1, 1), (1, 1)))
MANY_GROUPS = _case("many, groups", (4, 5), (3, 2), (32, 4), groups=2, stride=2, padding=((1, 0), (0, 1)))
DEPTHWISE = _case("depthwise", (6, 5), (3, 3), (3, 6), groups=3, stride=(1, 2), padding=((1, 1), (1, 1)))
ALONE = _case("each channel alone", (6, 5), (3, 2), (4, 4), groups=4, stride=(1, 2), padding=((1, 1), (0, 1)))
GREY = _case("one channel", (6, 5), (3, 2), (1, 4), stride=(1, 2), padding=((1, 1), (0, 1)))
PAIRS = _case("two channels a group", (6, 5), (3, 2), (6, 9), groups=3, stride=(1, 2), padding=((1, 1), (0, 1)))

EVERY_PATH = [FEW, FEW_GROUPS, MANY, MANY_GROUPS, DEPTHWISE, ALONE, GREY, PAIRS]

CONVOLUTIONS = [
    *EVERY_PATH,
    _case("few, strided, dilated", (9, 8), (3, 2), (2, 3), stride=(2, 3), padding=((2, 0), (1, 3)), dilation=(2, 1)),
    _case("many, strided, dilated", (8, 9), (2, 3), (16, 3), stride=(3, 2), padding=((0, 2), (3, 1)), dilation=(3, 2)),
    _case("each channel alone, stride 1", (6,), (3,), (4, 4), groups=4, padding=((5, 1),), dilation=2),
    _case("1d", (9,), (4,), (2, 3), padding=((3, 0),), stride=2),
    _case("3d", (3, 4, 3), (2, 3, 2), (2, 3), padding=((1, 0), (1, 1), (0, 0)), stride=(1, 2, 1)),
    _case("one tap, strides that skip", (5, 7), (1, 1), (3, 2), stride=(2, 3)),
    _case("taps that see padding only", (2, 3), (3, 2), (2, 2), padding=((4, 3), (3, 4)), dilation=(3, 3)),
    _case("more taps than are taken one by one", (13, 14), (12, 11), (2, 3), padding=((1, 0), (0, 2)), stride=(2, 1)),
    _case("3d, many channels", (3, 3, 2), (2, 2, 2), (5, 3), padding=((0, 1), (1, 0), (0, 1))),
    _case("windows that tile", (7, 6), (3, 2), (2, 3), stride=(3, 2)),
    _case("strides that leave a rest, many", (8,), (3,), (16, 2), stride=4),
]
