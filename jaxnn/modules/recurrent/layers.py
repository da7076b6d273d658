"""The classic recurrent layers: stacks of one kind of cell, made from sizes."""

from typing import Any, ClassVar

from flax import nnx

from jaxnn import functional as R
from jaxnn.modules.names import explained
from jaxnn.modules.recurrent.cells import GRUCell, LSTMCell, RNNCell
from jaxnn.modules.recurrent.stack import Layer, Recurrent, cells_of


@explained
class Sized(Recurrent):
    """Layers of one kind of cell, all of one size.

    Attributes:
        out_features: Number of features of the outputs.
    """

    _cell: ClassVar[Any]

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        return_state: bool = False,
        rngs: nnx.Rngs,
        **cell: Any,
    ) -> None:
        def make(features: int) -> nnx.Module:
            return self._cell(features, hidden_features, rngs=rngs, **cell)

        cells = cells_of(make, in_features, _features, layers=layers, bidirectional=bidirectional)
        super().__init__(cells, dropout=dropout, return_state=return_state, rngs=rngs)
        self.out_features = _features(cells[-1])


def _features(layer: Layer, in_features: int = 0) -> int:
    """How many features a layer of one of these kinds puts out, whatever its inputs."""
    del in_features
    cells: Any = layer if isinstance(layer, R.Directions) else (layer,)
    return sum(cell.params.output for cell in cells)


class RNN(Sized):
    """Layers of simple recurrent cells; `functional.rnn` in one direction or both, stacked.

    Args:
        in_features: The number of input features.
        hidden_features: The number of hidden units of each layer and direction.
        layers: How many layers.
        bidirectional: Whether every layer goes both ways; outputs are then twice as wide.
        dropout: The rate of dropout between layers.
        return_state: Whether a call returns `(outputs, states)`, unless it says otherwise.
        rngs: `params`, and `dropout` where there is some.
        **cell: What `RNNCell` takes: `activation`, `dtype`, `param_dtype`, the initialisers. Sharding metadata comes
            with `nnx.with_partitioning` on an initialiser.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
        >>> layer = modules.RNN(3, 5, layers=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 7, 3))).shape
        (2, 7, 5)
        >>> y, state = layer(jnp.ones((2, 7, 3)), return_state=True)
        >>> y.shape, len(state)
        ((2, 7, 5), 2)
    """

    _cell = RNNCell


class GRU(Sized):
    """Layers of gated recurrent units; `functional.gru` in one direction or both, stacked.

    Args:
        in_features: The number of input features.
        hidden_features: The number of hidden units of each layer and direction.
        layers: How many layers.
        bidirectional: Whether every layer goes both ways; outputs are then twice as wide.
        dropout: The rate of dropout between layers.
        return_state: Whether a call returns `(outputs, states)`, unless it says otherwise.
        rngs: `params`, and `dropout` where there is some.
        **cell: What `GRUCell` takes: `reset_after`, `activation`, `gate_activation`, `dtype`, `param_dtype`, the
            initialisers. Sharding metadata comes with `nnx.with_partitioning` on an initialiser.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
        >>> layer = modules.GRU(3, 5, bidirectional=True, rngs=nnx.Rngs(0))
        >>> y, (state,) = layer(jnp.ones((2, 7, 3)), return_state=True)
        >>> y.shape, state.backward.h.shape
        ((2, 7, 10), (2, 5))
    """

    _cell = GRUCell


class LSTM(Sized):
    """Layers of long short-term memory; `functional.lstm` in one direction or both, stacked.

    Args:
        in_features: The number of input features.
        hidden_features: The number of memory cells of each layer and direction.
        layers: How many layers.
        bidirectional: Whether every layer goes both ways; outputs are then twice as wide.
        dropout: The rate of dropout between layers.
        return_state: Whether a call returns `(outputs, states)`, unless it says otherwise.
        rngs: `params`, and `dropout` where there is some.
        **cell: What `LSTMCell` takes: `projection`, the number of output features of each layer and direction;
            `peephole`, `coupled`, `layer_norm`, `forget_bias`, `activation`, `gate_activation`, `dtype`, `param_dtype`,
            the initialisers. Sharding metadata comes with `nnx.with_partitioning` on an initialiser.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
        >>> layer = modules.LSTM(3, 5, layers=2, dropout=0.1, rngs=nnx.Rngs(0))
        >>> y, state = layer(jnp.ones((2, 7, 3)), lengths=jnp.array([7, 4]), return_state=True)
        >>> y.shape, state[-1].c.shape
        ((2, 7, 5), (2, 5))
    """

    _cell = LSTMCell
