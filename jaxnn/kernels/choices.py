"""Which formulation of a convolution XLA:CPU gets: one table, each row with the measurement behind it.

`python -m experiments.bench.choices` measures every formulation over many shapes, and prints where another row would be
faster on this machine. Times below are milliseconds inside a compiled loop, on two threads of an AMD EPYC with AVX2,
with JAX 0.10.2 / 0.12.0. XLA runs convolutions by YNNPACK by default, and by Eigen with the compiler options of
`jaxnn.train`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax

from jaxnn import processor
from jaxnn.kernels.geometry import Sizes
from jaxnn.kernels.taps import many

Pass = Literal["conv", "conv_dx", "conv_dw"]
Formulation = Literal["elementwise", "taps", "canonical"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """The work of one pass, on which the choice depends.

    Attributes:
        kind: The convolution, or its gradient with respect to the input or the kernel.
        dtype: Name of the operands' dtype.
        batch: Number of examples.
        spatial: Size of the input along each spatial axis.
        places: Size of the output along each spatial axis.
        window: Size of the kernel along each spatial axis.
        inputs: Channels of the input in each group.
        outputs: Channels of the output, of all groups.
        stride: Stride along each spatial axis.
        groups: Number of feature groups.
        tiles: Whether the windows tile the input: the stride is their size, without padding, dilation or groups.
        differentiated: Whether the convolution is part of a derivative's program, for example of a training step.
        eigen: Whether Eigen computes XLA's convolutions, and not YNNPACK.
    """

    kind: Pass
    dtype: str
    batch: int
    spatial: Sizes
    places: Sizes
    window: Sizes
    inputs: int
    outputs: int
    stride: Sizes
    groups: int = 1
    tiles: bool = False
    differentiated: bool = False
    eigen: bool = False

    @property
    def multiplications(self) -> int:
        """Number of multiplications of the whole pass."""
        return self.batch * math.prod(self.places) * math.prod(self.window) * self.inputs * self.outputs

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel, and is the only one that reads it."""
        return self.groups > 1 and self.inputs == 1 and self.outputs == self.groups

    @property
    def elementwise(self) -> bool:
        """Whether groups have so few channels to sum over that a tap is faster element by element than as a product."""
        each = self.outputs // self.groups
        if self.depthwise:
            return True
        if many((each if self.kind == "conv_dx" else self.inputs, *self.window)):
            return False
        if self.kind == "conv_dw":
            return self.groups > 1 and self.inputs == 1
        if self.kind == "conv_dx":
            return self.groups > 1 and set(self.stride) == {1} and each <= (8 if self.inputs == 1 else 2)
        if self.groups > 1:
            return self.inputs <= (4 if self.eigen else 2)
        numbers = self.inputs * math.prod(self.window)
        grey = self.inputs == 1 and numbers <= FEW_TAPS and self.outputs <= 16
        picture = self.differentiated and self.eigen and numbers <= FEW_NUMBERS and self.outputs <= 64
        return grey or picture or (self.inputs <= 4 and len(self.window) > 2)

    @property
    def by_taps(self) -> bool:
        """Whether the window is small enough to compile each tap, and to copy the inputs of all taps of an example."""
        views = math.prod(self.places) * math.prod(self.window) * self.inputs * self.groups * 4
        return not many(self.window) and views <= LARGE_BYTES

    @property
    def multiplies_zeros(self) -> bool:
        """Whether zeros of padding or a stride make the canonical gradient of the input slower than products of taps.

        It has an output for each element of the input, and products of taps have one for each place of the window.
        """
        if self.kind != "conv_dx" or self.groups > 1 or self.inputs < 4 or not self.by_taps:
            return False
        if set(self.stride) == {1}:
            return math.prod(self.spatial) >= 1.3 * math.prod(self.places)
        return max(self.stride) == 2 and math.prod(self.window) <= 9 and self.inputs >= 16

    @property
    def padded(self) -> bool:
        """Whether places of the window reach beyond the input."""
        return any(
            (o - 1) * s + k > n for n, o, k, s in zip(self.spatial, self.places, self.window, self.stride, strict=True)
        )

    @property
    def ynn_is_fast(self) -> bool:
        """Whether YNNPACK computes the gradient of a kernel faster than products of taps.

        With AVX-512 and JAX 0.10.2 / 0.12.0, milliseconds in a call: 3x3, 32x32x32 to 32, batch 32: 7.2 / 8.0, taps
        12.0 / 13.9; without padding, 15x15x32 to 64, batch 128: 15.4 / 12.5, taps 11.7 / 14.7. JAX 0.11.0 is as 0.12.
        With AVX2 the row of the table has the times. With three input channels it does not: 3x3, 32x32x3 to 32, batch
        128, JAX 0.12: 14, taps 5.
        """
        return AVX512 and self.inputs >= 4 and (NEW_YNN or (self.padded and set(self.stride) == {1}))


AVX512 = "avx512f" in processor.features()
"""Whether the processor has the instructions for which most rows were measured."""

NEW_YNN = jax.__version_info__ >= (0, 11)
"""Whether YNNPACK computes gradients of kernels without padding fast, too."""

FEW_TAPS = 25
"""Largest number of taps for which pictures of one channel, and gradients of kernels by products, are fast."""

FEW_NUMBERS = 27
"""Numbers under a window up to which pictures of few channels are convolved so in training, by the options of `train`.

Relative to Eigen, JAX 0.10.2 / 0.12: 3x3 of three channels 0.4 / 0.6, 5x5 of one 0.3 / 0.5; 3x3 of four 0.6 / 1.1, 5x5
of three 1.1 / 2.1. YNNPACK takes 0.6 to 3 times as long as Eigen there. A step of the CIFAR-10 network takes 0.92.
"""

LARGE_BYTES = 1 << 26
"""Largest size in bytes to copy for the inputs of all taps of one example, which bounds the memory."""


class Row(NamedTuple):
    """A formulation, the passes and the work for which it is chosen, and why."""

    formulation: Formulation
    kinds: tuple[Pass, ...]
    serves: Callable[[Work], bool]
    why: str


ALL: tuple[Pass, ...] = ("conv", "conv_dx", "conv_dw")

TABLE = (
    Row(
        "elementwise",
        ALL,
        lambda w: w.elementwise,
        "AVX-512: 3x3, 14x14x96 to 192, 96 groups, conv: 1.4 / 0.9, dw: 3.0 / 2.5; canonical 16.6 / 20.1 by Eigen, "
        "8.2 / 9.6 by YNNPACK, dw: 3.6 / 4.8. 5x5, 28x28x1 to 6, batch 128, conv: 0.46 / 0.67; canonical 5.2 / 8.2. "
        "3x3, 28x28x128, 64 groups, dx: 2.6 / 3.6; taps 6.7 / 7.2. Differentiated, 3x3, 32x32x3 to 32, batch 128: 2.0 /"
        " 3.1; canonical by Eigen 5.0 / 4.6. Alone that is slower: XLA no longer fuses it with ReLU and a pool",
    ),
    Row(
        "taps",
        ("conv_dx",),
        lambda w: w.groups > 1 and w.by_taps and (not w.eigen or w.inputs <= 4 or set(w.stride) != {1}),
        "AVX-512: 3x3, 14x14x128, 32 groups, dx: 3.0 / 2.3; canonical 8.6 / 4.1 by YNNPACK, 6.6 / 7.7 by Eigen. 3x3/2, "
        "28x28x64, 16 groups: 1.0 / 0.9; canonical 6.7 / 7.8 by both",
    ),
    Row(
        "taps",
        ("conv_dx",),
        lambda w: w.groups == w.inputs == 1 and math.prod(w.window) <= FEW_TAPS,
        "AVX-512: 5x5, 28x28x1 to 6, batch 128, dx: 3.2 / 5.3; canonical 7.5 / 7.0 by YNNPACK, 7.7 / 7.0 by Eigen",
    ),
    Row(
        "taps",
        ("conv_dx",),
        lambda w: w.tiles and math.prod(w.window) > 4,
        "AVX-512: 16x16/16, 128x128x3 to 192, dx: 1.0 / 1.1; canonical 16 / 31. 4x4/4, "
        "64x64x3 to 96: 0.4 / 0.8; 0.6 / 1.0",
    ),
    Row(
        "taps",
        ("conv_dw",),
        lambda w: w.by_taps and w.groups == 1 and set(w.stride) != {1} and (w.tiles or len(w.window) == 1),
        "AVX-512: 10/5, 4000x32 to 64, dw: 2.3 / 2.5; canonical by Eigen 3.3 / 4.4. 2x2/2, "
        "64x64x32 to 64: 0.9 / 1.4; 1.5 / 2.7",
    ),
    Row(
        "taps",
        ALL,
        lambda w: len(w.window) > 2 and w.by_taps and w.groups == 1,
        "AVX-512: 3x3x3, 8x8x8x64 to 64: 3.8 / 4.3; canonical 7.4 / 7.9. 12x12x12x16 to 32, dx: 2.5 / 2.2; 9.7 / 10.1, "
        "dw: 2.6 / 2.3; 9.4 / 7.5. 3x3x3/2, dx: 0.9 / 0.9; 42 / 44",
    ),
    Row(
        "taps",
        ALL,
        lambda w: math.prod(w.window) == 1 and (w.kind == "conv_dw" or not w.eigen),
        "1x1, 16x16x64 to 256, dw: 5.8 / 6.1; canonical by Eigen 7.2 / 7.4, by YNNPACK 99 / 32. conv, "
        "AVX-512, in a call: 2.8; canonical by Eigen 1.5, by YNNPACK 1.9",
    ),
    Row(
        "taps",
        ALL,
        lambda w: w.dtype not in ("float32", "bfloat16", "float16") and w.by_taps,
        "float64, 3x3, 15x15x32 to 64, dx: 10 / 16; canonical 42 / 84, as Eigen has no kernels of this dtype",
    ),
    Row(
        "taps",
        ("conv_dx",),
        lambda w: w.multiplies_zeros,
        "AVX-512: 3x3 without padding, 15x15x32 to 64, batch 32, dx: 1.3 / 1.3; canonical 1.7 / 1.7. 8x8x64 to 128: "
        "1.3 / 1.3; 1.9 / 1.8. 3x3/2, 28x28x128 to 128: 2.8 / 2.9; 5.0 / 3.7. 112x112x32 to 32: 4.7 / 4.8; 9.0 / 10",
    ),
    Row("canonical", ALL, lambda w: w.eigen, "3x3, 15x15x32 to 64, dw: 14.3 / 14.4; taps 20 / 22"),
    Row(
        "taps",
        ("conv_dw",),
        lambda w: (
            not w.ynn_is_fast
            and len(w.window) > 1
            and w.by_taps
            and math.prod(w.window) <= FEW_TAPS
            and w.inputs > (1 if w.groups == 1 else 8)
        ),
        "3x3, 15x15x32 to 64, batch 32, dw: 6.1 / 8.5; canonical by YNNPACK 11.2 / 11.5. 7x7, 14x14x64 to 64, AVX-512, "
        "dw: 20.4 / 16.8; 38 / 8.0",
    ),
    Row("canonical", ALL, lambda _: True, "never slower than jax.lax's own, and as fast in loops as outside"),
)


def choose(work: Work) -> Formulation:
    """Returns the formulation of the first row that serves."""
    return next(row.formulation for row in TABLE if work.kind in row.kinds and row.serves(work))
