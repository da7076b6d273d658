"""Recurrent layers made from sizes: stacks of one kind of cell, the classic ones or any other."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as F
from jaxnn.counts import check_count
from jaxnn.functional import arguments
from jaxnn.modules.names import explained
from jaxnn.modules.recurrent.classic import GRUCell, LSTMCell, RNNCell
from jaxnn.modules.recurrent.stack import Layer, Recurrent

Kind = Literal["rnn", "gru", "lstm"]

MakeCell = Callable[..., nnx.Module]
"""`(in_features, hidden_features, *, rngs) -> cell`: `nnx.GRUCell`, `functools.partial(LSTMCell, projection=8)`."""


def cells_of(
    make: Callable[[int], nnx.Module],
    in_features: int,
    features: Callable[[Layer, int], int],
    *,
    layers: int,
    bidirectional: bool,
) -> list[Layer]:
    """Cells for a stack of layers, lowest first: one per layer, or a pair if bidirectional.

    `make(in_features)` makes a cell; `features(layer, in_features)` is the number of features that a layer outputs.
    """
    check_count("layers", layers)
    cells: list[Layer] = []
    for _ in range(layers):
        if cells:
            in_features = features(cells[-1], in_features)
        cell = make(in_features)
        cells.append(F.Directions(cell, make(in_features)) if bidirectional else cell)
    return cells


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
    """Number of features that a layer of one of these kinds outputs, for any inputs."""
    del in_features
    cells: Any = layer if isinstance(layer, F.Directions) else (layer,)
    return sum(cell.params.output for cell in cells)


class RNN(Sized):
    """Layers of simple recurrent cells; `functional.rnn` in one direction or both, stacked.

    Args:
        in_features: Number of input features.
        hidden_features: Number of hidden units of each layer and direction.
        layers: Number of layers.
        bidirectional: Whether every layer runs in both directions; outputs are then twice as wide.
        dropout: Rate of dropout between layers.
        return_state: Whether a call returns `(outputs, states)`, unless the call says otherwise.
        rngs: Random streams: `params`, and `dropout` if the rate is above 0.
        **cell: Arguments of `RNNCell`: `activation`, `dtype`, `param_dtype`, the initialisers. Sharding metadata comes
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
        in_features: Number of input features.
        hidden_features: Number of hidden units of each layer and direction.
        layers: Number of layers.
        bidirectional: Whether every layer runs in both directions; outputs are then twice as wide.
        dropout: Rate of dropout between layers.
        return_state: Whether a call returns `(outputs, states)`, unless the call says otherwise.
        rngs: Random streams: `params`, and `dropout` if the rate is above 0.
        **cell: Arguments of `GRUCell`: `reset_after`, `activation`, `gate_activation`, `dtype`, `param_dtype`, the
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
        in_features: Number of input features.
        hidden_features: Number of memory cells of each layer and direction.
        layers: Number of layers.
        bidirectional: Whether every layer runs in both directions; outputs are then twice as wide.
        dropout: Rate of dropout between layers.
        return_state: Whether a call returns `(outputs, states)`, unless the call says otherwise.
        rngs: Random streams: `params`, and `dropout` if the rate is above 0.
        **cell: Arguments of `LSTMCell`: `projection`, the number of output features of each layer and direction;
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


KINDS: dict[str, type[Sized]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}


def layers_of(
    kind: str,
    cell: MakeCell | None,
    in_features: int,
    hidden_features: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
) -> Recurrent:
    """Makes the layers of a model, of a kind or from the cells that `cell` makes, which choose their dtypes.

    The arguments are those of `Encoder`.
    """
    if cell is None:
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(map(repr, KINDS))}, got {kind!r}")
        return KINDS[kind](
            in_features,
            hidden_features,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
    if not callable(cell) or isinstance(cell, nnx.Module):
        raise ValueError(
            "cell: expected a function (in_features, hidden_features, *, rngs) -> cell, got "
            f"{type(cell).__name__}; give a class, for example nnx.GRUCell, or a function that calls modules.Cell."
        )

    def make(features: int) -> nnx.Module:
        return cell(features, hidden_features, rngs=rngs)

    def width(layer: Layer, size: int) -> int:
        return outline(Recurrent(layer), size, dtype or param_dtype)[0].shape[-1]

    cells = cells_of(make, in_features, width, layers=layers, bidirectional=bidirectional)
    return Recurrent(cells, dropout=dropout, rngs=rngs)


def outline(layers: Recurrent, in_features: int, dtype: Any) -> tuple[jax.ShapeDtypeStruct, tuple[Any, ...]]:
    """The outputs and the states of layers for a sequence of one step, as shapes; raises unless a step has a vector."""
    x = jax.ShapeDtypeStruct((1, in_features), dtype)
    y, states = jax.eval_shape(lambda x: layers(x, deterministic=True, return_state=True), x)
    if not isinstance(y, jax.ShapeDtypeStruct) or y.ndim != 2:
        got = [leaf.shape[1:] for leaf in jax.tree.leaves(y)]
        raise ValueError(f"cell: expected one vector as the output of a step, got arrays {got}; concatenate them.")
    return y, states


def start(layers: Recurrent, in_features: int, batch: tuple[int, ...], dtype: Any) -> tuple[Any, ...]:
    """The states before the first step, for any cells: the states after zero steps."""
    nothing = jnp.zeros((*arguments.shape("batch", batch), 0, in_features), dtype)
    return layers(nothing, deterministic=True, return_state=True)[1]
