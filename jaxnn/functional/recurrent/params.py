"""Parameters and states of the recurrent layers: NamedTuples of arrays, so pytrees whose parts have names."""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import export

from jaxnn.kernels.accumulate import accumulator


class RNNState(NamedTuple):
    """State of a simple recurrent layer.

    Attributes:
        h: `(*batch, hidden)`, the output of the last step.
    """

    h: jax.Array


class GRUState(NamedTuple):
    """State of a GRU.

    Attributes:
        h: `(*batch, hidden)`, the output of the last step.
    """

    h: jax.Array


class LSTMState(NamedTuple):
    """State of an LSTM.

    Attributes:
        h: `(*batch, output)`, the output of the last step: `output` is the projection's size, else `hidden`.
        c: `(*batch, hidden)`, the cell state. At least float32, also where the inputs are half precision:
            it is a long sum of small terms.
    """

    h: jax.Array
    c: jax.Array


State = RNNState | GRUState | LSTMState
StateT = TypeVar("StateT", RNNState, GRUState, LSTMState)


class RNNParams(NamedTuple):
    """Parameters of a simple (Elman) recurrent layer.

    Attributes:
        w_x: `(features, hidden)`.
        w_h: `(hidden, hidden)`.
        b: `(hidden,)`.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array

    @property
    def hidden(self) -> int:
        """Number of hidden units."""
        return self.w_h.shape[0]

    @property
    def output(self) -> int:
        """Number of output features."""
        return self.hidden

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> RNNState:
        """The state that `state=None` stands for, for inputs of `dtype`."""
        return RNNState(jnp.zeros((*batch, self.hidden), dtype))


class GRUParams(NamedTuple):
    """Parameters of a GRU; gates stand in the order r (reset), z (update), n (candidate).

    Attributes:
        w_x: `(features, 3 * hidden)`.
        w_h: `(hidden, 3 * hidden)`.
        b: `(3 * hidden,)`.
        b_hn: `(hidden,)`, the candidate's recurrent bias: it sits inside the reset product, so it cannot be
            merged into `b`. The recurrent biases that other libraries keep for r and z are added to `b`.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array
    b_hn: jax.Array

    @property
    def hidden(self) -> int:
        """Number of hidden units."""
        return self.w_h.shape[0]

    @property
    def output(self) -> int:
        """Number of output features."""
        return self.hidden

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> GRUState:
        """The state that `state=None` stands for, for inputs of `dtype`."""
        return GRUState(jnp.zeros((*batch, self.hidden), dtype))


class LSTMNorm(NamedTuple):
    """Gains and shift of a layer-normalised LSTM (Ba et al. 2016); the products' shifts are the bias `b`.

    Attributes:
        x: `(gates * hidden,)`, gain on the normalised input product.
        h: `(gates * hidden,)`, gain on the normalised recurrent product.
        c: `(hidden,)`, gain on the normalised cell state.
        c_shift: `(hidden,)`, shift of the normalised cell state.
    """

    x: jax.Array
    h: jax.Array
    c: jax.Array
    c_shift: jax.Array


class LSTMParams(NamedTuple):
    """Parameters of an LSTM; gates stand in the order i (input), f (forget), g (candidate), o (output).

    What the parameters hold decides the variant, so that no flag can disagree with them: three gates instead
    of four (f, g, o) make the input-forget pair coupled, `i = 1 - f`; each optional part is used where it is
    present.

    Attributes:
        w_x: `(features, gates * hidden)`.
        w_h: `(output, gates * hidden)`; `output` is `hidden` without a projection.
        b: `(gates * hidden,)`.
        peephole: `(gates - 1, hidden)`, diagonal weights from the cell state to i, f, o (coupled: f, o).
        projection: `(hidden, output)`.
        norm: gains of the layer normalisation.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array
    peephole: jax.Array | None = None
    projection: jax.Array | None = None
    norm: LSTMNorm | None = None

    @property
    def hidden(self) -> int:
        """Number of memory cells."""
        return self.w_h.shape[0] if self.projection is None else self.projection.shape[0]

    @property
    def output(self) -> int:
        """Number of output features."""
        return self.w_h.shape[0]

    @property
    def gates(self) -> int:
        """Four, or three where the input and forget gates are coupled."""
        return self.w_h.shape[1] // self.hidden

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> LSTMState:
        """The state that `state=None` stands for, for inputs of `dtype`."""
        h = jnp.zeros((*batch, self.output), dtype)
        return LSTMState(h, jnp.zeros((*batch, self.hidden), accumulator(dtype)))


Params = RNNParams | GRUParams | LSTMParams

for _type in (RNNState, GRUState, LSTMState, RNNParams, GRUParams, LSTMNorm, LSTMParams):
    export.register_namedtuple_serialization(_type, serialized_name=f"jaxnn.{_type.__name__}")
