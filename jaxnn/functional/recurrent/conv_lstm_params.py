"""Parameters and state of a convolutional LSTM: their definition, checks and initialisation."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform

from jaxnn.functional import arguments
from jaxnn.functional.arguments import SizesLike, axes_of, drawn, sizes
from jaxnn.functional.exportable import exportable
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.init import Initializer, orthogonal, per_gate
from jaxnn.functional.recurrent.init_lstm import forget_bias
from jaxnn.kernels.accumulate import accumulator
from jaxnn.shapes import shown


@exportable
@shown
class ConvLSTMState(NamedTuple):
    """State of a convolutional LSTM.

    Attributes:
        h: `(*batch, *spatial, hidden)`, the output of the last step.
        c: `(*batch, *spatial, hidden)`, the cell state. At least float32, also where the inputs are half precision.
    """

    h: jax.Array
    c: jax.Array


@exportable
@shown
class ConvLSTMParams(NamedTuple):
    """Parameters of a convolutional LSTM; the gates are ordered i (input), f (forget), g (candidate), o (output).

    The kernels determine the number of spatial axes. Their windows may differ.

    Attributes:
        w_x: `(*window, features, 4 * hidden)`, the kernel of the inputs.
        w_h: `(*window, hidden, 4 * hidden)`, the kernel of the state.
        b: `(4 * hidden,)`.
        peephole: `(3, *spatial, hidden)`, elementwise weights from the cell state to i, f, o; None without.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array
    peephole: jax.Array | None = None

    @property
    def spatial(self) -> int:
        """Number of spatial axes."""
        return self.w_h.ndim - 2

    @property
    def hidden(self) -> int:
        """Number of channels of the cell state."""
        return self.w_h.shape[-2]

    @property
    def output(self) -> int:
        """Number of channels of the outputs."""
        return self.hidden

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike, size: Sequence[int]) -> ConvLSTMState:
        """The default initial state for inputs of `dtype`; `size` is the spatial size of the outputs."""
        batch = arguments.shape("batch", batch)
        h = jnp.zeros((*batch, *size, self.hidden), dtype)
        return ConvLSTMState(h, jnp.zeros(h.shape, accumulator(dtype)))


def check_kernels(params: ConvLSTMParams, x: jax.Array, axes: str) -> None:
    """Raises if the parameters do not fit each other or the inputs, whose axes `axes` names."""
    check.kind_of(params, ConvLSTMParams)
    w_x, w_h = params.w_x.shape, params.w_h.shape
    if len(w_h) < 3 or 0 in w_h or w_h[-1] != 4 * w_h[-2]:
        raise ValueError(
            f"params.w_h: expected (*window, hidden, 4 * hidden), got {w_h}; join the gates in the last axis."
        )
    if len(w_x) != len(w_h) or 0 in w_x or w_x[-1] != w_h[-1]:
        raise ValueError(
            f"params.w_x: expected (*window, features, {w_h[-1]}) with the {len(w_h) - 2} window axes of params.w_h, "
            f"got shape {w_x}; give both kernels the same axes and columns."
        )
    check.shapes({"b": w_h[-1:]}, params)
    check.features(params, x, axes)


def init_conv_lstm(
    key: jax.Array,
    features: int,
    hidden: int,
    window: SizesLike,
    *,
    peephole: Sequence[int] | None = None,
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> ConvLSTMParams:
    """Random parameters of a convolutional LSTM.

    Args:
        key: A random key.
        features: Number of input channels.
        hidden: Number of channels of the state.
        window: Size of both kernels, one int per spatial axis; a single int means a square over two axes.
        peephole: Spatial size of the outputs, to let the gates see the cell state with separate weights for each
            position (Shi et al. 2015); None for no peepholes.
        kernel_init: For `w_x`, given its whole shape; Glorot uniform for each gate by default.
        recurrent_kernel_init: For `w_h`, given its whole shape; orthogonal for each gate by default, with the window
            and the channels as rows.
        bias_init: For `b`; `forget_bias(1.0)` by default.
        dtype: Dtype of all parameters.

    Returns:
        The parameters. Peepholes start at zero.

    Raises:
        ValueError: If a size is not a positive integer.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> params = F.init_conv_lstm(jax.random.key(0), features=2, hidden=3, window=(5, 3), peephole=(8, 6))
        >>> params.w_x.shape, params.w_h.shape, params.b.shape, params.peephole.shape
        ((5, 3, 2, 12), (5, 3, 3, 12), (12,), (3, 8, 6, 3))
    """
    check.init(key, features=features, hidden=hidden)
    taps = sizes("window", window, axes_of(window))
    k_x, k_h, k_b = jax.random.split(key, 3)
    width = 4 * hidden
    return ConvLSTMParams(
        w_x=drawn("kernel_init", kernel_init or per_gate(glorot_uniform(), 4), k_x, (*taps, features, width), dtype),
        w_h=drawn(
            "recurrent_kernel_init",
            recurrent_kernel_init or per_gate(orthogonal, 4),
            k_h,
            (*taps, hidden, width),
            dtype,
        ),
        b=drawn("bias_init", bias_init or forget_bias(1.0), k_b, (width,), dtype),
        peephole=None if peephole is None else jnp.zeros((3, *sizes("peephole", peephole, len(taps)), hidden), dtype),
    )
