"""Windows that slide over spatial axes, as one hashable value."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from jax import lax
from jax.core import max_dim

Sizes = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]


def known(size: Any) -> bool:
    """Whether a size is a number while tracing; an exported program may learn a size only when it is called."""
    return isinstance(size, int)


@dataclasses.dataclass(frozen=True)
class Window:
    """A window's size, stride, zero padding (low, high) and dilation, for each spatial axis."""

    size: Sizes
    stride: Sizes
    padding: Padding
    dilation: Sizes

    def out(self, spatial: Sizes) -> Sizes:
        """Returns the number of places of the window along each axis."""
        return tuple(
            max_dim(0, (n + low + high - d * (k - 1) - 1) // s + 1)
            for n, k, s, (low, high), d in zip(
                spatial, self.size, self.stride, self.padding, self.dilation, strict=True
            )
        )

    def tiles(self, spatial: Sizes) -> bool:
        """Whether the windows tile the input: none overlap, and none skip elements or include padding."""
        return (
            self.stride == self.size
            and not any(low or high for low, high in self.padding)
            and all(d == 1 or k == 1 for d, k in zip(self.dilation, self.size, strict=True))
            and all(self.out(spatial))
        )

    def mirrored(self) -> "Window":
        """Returns the window over the outputs that see an input element, for a stride of 1.

        Its taps are in reverse order. A transpose by this window pads one array once and reads it. Padding and adding
        the contribution of each tap is slow, and a chain of such transposes makes ever larger programs for XLA:CPU.
        """
        reach = tuple(d * (k - 1) for k, d in zip(self.size, self.dilation, strict=True))
        padding = tuple((r - low, r - high) for r, (low, high) in zip(reach, self.padding, strict=True))
        return dataclasses.replace(self, padding=padding)

    def taps(self) -> Iterator[Sizes]:
        """Yields the position of each tap's first sample on the padded input, in row-major order."""
        for tap in itertools.product(*map(range, self.size)):
            yield tuple(t * d for t, d in zip(tap, self.dilation, strict=True))


@dataclasses.dataclass(frozen=True)
class ConvGeometry:
    """Stride, zero padding (low, high) and dilation per spatial axis; feature groups; precision as in `jax.lax`."""

    stride: Sizes
    padding: Padding
    dilation: Sizes
    groups: int = 1
    precision: Any = None

    def window(self, size: Sizes) -> Window:
        """Returns the window of a kernel of this size."""
        return Window(size, self.stride, self.padding, self.dilation)

    def tiles(self, size: Sizes) -> bool:
        """Whether kernels of this size tile every input that they fit, and see all of its channels."""
        return self.groups == 1 and self.window(size).tiles(size)


def pad(x: jax.Array, edges: Iterable[tuple[int, int, int]], value: jax.typing.ArrayLike = 0) -> jax.Array:
    """Pads the spatial axes of `x (batch, *spatial, channels)`, each by (low, high, interior) of `lax.pad`.

    The start of a dilated axis is cropped afterwards: XLA's partitioner crashes if one `lax.pad` does both to a sharded
    axis.
    """
    edges = list(edges)
    front = [max_dim(0, -low) if interior else 0 for low, _, interior in edges]
    wide = [(low + cut, high, interior) for (low, high, interior), cut in zip(edges, front, strict=True)]
    x = lax.pad(x, lax.full((), value, x.dtype), ((0, 0, 0), *wide, (0, 0, 0)))
    return x if all(known(cut) and not cut for cut in front) else lax.slice(x, (0, *front, 0), x.shape)


def lax_reduce(operands: Any, start: Any, reducer: Any, window: Window) -> Any:
    """Calls `jax.lax.reduce_window` over arrays `(batch, *spatial, channels)`."""
    return lax.reduce_window(
        operands,
        start,
        reducer,
        (1, *window.size, 1),
        (1, *window.stride, 1),
        ((0, 0), *window.padding, (0, 0)),
        window_dilation=(1, *window.dilation, 1),
    )


def lax_conv(x: jax.Array, kernel: jax.Array, geometry: ConvGeometry, *, dilate: Sizes | None = None) -> jax.Array:
    """Calls `jax.lax.conv_general_dilated`, channels last, with any number of spatial axes; `dilate` is that of `x`."""
    n = x.ndim - 2
    channels_last = (0, n + 1, *range(1, n + 1))
    padding = geometry.padding
    if not all(known(amount) for pair in padding for amount in pair):  # `jax.lax` takes numbers only
        holes = dilate or (1,) * n
        edges = ((low, high, hole - 1) for (low, high), hole in zip(padding, holes, strict=True))
        x = pad(x, edges)
        padding, dilate = ((0, 0),) * n, None
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=geometry.stride,
        padding=padding,
        lhs_dilation=dilate,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
        dimension_numbers=lax.ConvDimensionNumbers(channels_last, (n + 1, n, *range(n)), channels_last),
        precision=geometry.precision,
    )
