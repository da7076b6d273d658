"""Recurrent layers over whole sequences: stacks of cells in one direction or both."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as R
from jaxnn.functional import arguments
from jaxnn.functional.recurrent import check
from jaxnn.modules.recurrent.cells import Cell, GRUCell, LSTMCell, RNNCell


class CallOptions(TypedDict, total=False):
    """What a call of a recurrent module takes beside its inputs and `return_state`."""

    state: Sequence[Any] | None
    lengths: jax.typing.ArrayLike | None
    reverse: bool
    resets: jax.typing.ArrayLike | None
    time_major: bool
    remat: int | None
    truncate: int | None
    algorithm: str
    deterministic: bool | None
    rngs: nnx.Rngs | nnx.RngStream | jax.Array | None


class Recurrent(nnx.Module):
    """What `RNN`, `GRU` and `LSTM` share: layers of cells, run by one call of `functional.stack`.

    Attributes:
      cells: one cell a layer, lowest first; with `bidirectional` a pair `Directions(forward, backward)`.
      out_features: the number of features of the outputs.
      dropout: the rate between layers; switched off by `deterministic`, so by `model.eval()`.
      return_state: whether a call returns the final states beside the outputs, unless it says otherwise.
    """

    def __init__(
        self,
        cell: Callable[[int], Cell],
        in_features: int,
        output: int,
        *,
        layers: int,
        bidirectional: bool,
        dropout: float,
        return_state: bool,
        rngs: nnx.Rngs,
    ) -> None:
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        check.rate("dropout", dropout)
        self.out_features = output * (2 if bidirectional else 1)
        sizes = [in_features] + [self.out_features] * (layers - 1)
        cells = [R.Directions(cell(n), cell(n)) if bidirectional else cell(n) for n in sizes]
        self.cells = nnx.data(cells)
        self.bidirectional = bidirectional
        self.dropout = float(dropout)
        self.return_state = return_state
        self.deterministic = False
        self.rngs = rngs.dropout.fork() if dropout > 0 and layers > 1 else nnx.data(None)

    def set_view(self, deterministic: bool | None = None) -> None:
        """For `nnx.view`.

        Args:
          deterministic: whether dropout is off.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _first(self) -> Cell:
        first = self.cells[0]
        return first.forward if isinstance(first, R.Directions) else first

    def _dtype(self, x: jax.Array) -> Any:
        own = self._first().dtype
        return x.dtype if own is None else own

    def _arrays(self, dtype: Any) -> list[Any]:
        is_cell = lambda c: isinstance(c, Cell)  # noqa: E731
        return jax.tree.map(lambda c: c.arrays(dtype), self.cells, is_leaf=is_cell)

    def zero_state(self, batch: tuple[int, ...] = (), dtype: Any = jnp.float32) -> tuple[Any, ...]:
        """The states of all layers before the first step, for inputs with these batch axes and this dtype."""
        is_cell = lambda c: isinstance(c, Cell)  # noqa: E731
        return tuple(jax.tree.map(lambda c: c.zero_state(batch, dtype), self.cells, is_leaf=is_cell))

    @overload
    def __call__(self, x: jax.Array, *, return_state: Literal[False], **options: Unpack[CallOptions]) -> jax.Array: ...

    @overload
    def __call__(
        self, x: jax.Array, *, return_state: Literal[True], **options: Unpack[CallOptions]
    ) -> tuple[jax.Array, tuple[Any, ...]]: ...

    @overload
    def __call__(self, x: jax.Array, *, return_state: bool | None = None, **options: Unpack[CallOptions]) -> Any: ...

    def __call__(
        self,
        x: jax.Array,
        *,
        return_state: bool | None = None,
        state: Sequence[Any] | None = None,
        lengths: jax.typing.ArrayLike | None = None,
        reverse: bool = False,
        resets: jax.typing.ArrayLike | None = None,
        time_major: bool = False,
        remat: int | None = None,
        truncate: int | None = None,
        algorithm: str = "auto",
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> Any:
        """Runs all layers over a sequence; what is not said here is as in `functional.lstm`.

        Args:
          x: `(*batch, time, in_features)`.
          return_state: whether the final states are returned beside the outputs; the attribute by default.
          state: the initial state of each layer, lowest first; zeros by default.
          lengths: how many steps of each sequence count.
          reverse: whether to go from the last step to the first; not for bidirectional layers.
          resets: where a new sequence starts.
          time_major: whether time is the first axis.
          remat: keep only every `remat`-th state for the backward pass.
          truncate: stop gradients every so many steps.
          algorithm: how it is computed.
          deterministic: whether dropout is off; the attribute by default.
          rngs: for dropout, or a key; those of the module by default.

        Returns:
          The outputs `(*batch, time, out_features)`; with `return_state` also the final state of each layer, lowest
          first, as in `(outputs, states)`.

        Raises:
          ValueError: as `functional.lstm` and `functional.stack`.
        """
        dtype = self._dtype(x)
        off = self.deterministic if deterministic is None else deterministic
        dropout = 0.0 if off or len(self.cells) == 1 else self.dropout
        options = {} if self.bidirectional and not reverse else {"reverse": reverse}
        y, states = R.stack(
            self._layer,
            self._arrays(dtype),
            arguments.cast("x", x, dtype),
            state,
            dropout=dropout,
            key=self._key(rngs) if dropout > 0 else None,
            lengths=lengths,
            resets=resets,
            time_major=time_major,
            remat=remat,
            truncate=truncate,
            algorithm=algorithm,
            **options,
            **self._first().options,
        )
        return (y, states) if (self.return_state if return_state is None else return_state) else y

    def step(self, state: Sequence[Any], x: jax.Array) -> tuple[Any, ...]:
        """One step of all layers, without dropout: a loop of these equals the whole call, up to rounding.

        Args:
          state: the state of each layer, at first `zero_state(batch)`.
          x: `(*batch, in_features)`.

        Returns:
          The new state of each layer; `state[-1].h` is the output.

        Raises:
          ValueError: the layers are bidirectional, or as `functional.lstm_step`.
        """
        dtype = self._dtype(x)
        return R.stack_step(
            self._step, self._arrays(dtype), state, arguments.cast("x", x, dtype), **self._first().options
        )

    def _key(self, rngs: nnx.Rngs | nnx.RngStream | jax.Array | None) -> jax.Array | None:
        source = self.rngs if rngs is None else rngs
        if isinstance(source, nnx.Rngs):
            return source.dropout()
        return source() if isinstance(source, nnx.RngStream) else source

    @staticmethod
    def _layer(*args: Any, **options: Any) -> tuple[jax.Array, Any]:
        raise NotImplementedError

    @staticmethod
    def _step(*args: Any, **options: Any) -> Any:
        raise NotImplementedError


class RNN(Recurrent):
    """Layers of simple recurrent cells; each call is one call of `functional.stack` with `functional.rnn`.

    Args:
      in_features: the number of input features.
      hidden_features: the number of hidden units of each layer and direction.
      layers: how many layers.
      bidirectional: whether every layer goes both ways; outputs are then twice as wide.
      dropout: the rate of dropout between layers.
      return_state: whether calls return `(outputs, states)` instead of the outputs alone, unless a call says otherwise.
      rngs: `params`, and `dropout` where there is some.
      **cell: what `RNNCell` takes: `activation`, `dtype`, `param_dtype`, the initialisers. Sharding metadata comes
        with `nnx.with_partitioning` on an initialiser.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from jaxnn.modules import recurrent as modules
    >>> layer = modules.RNN(3, 5, layers=2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((2, 7, 3))).shape
    (2, 7, 5)
    >>> y, state = layer(jnp.ones((2, 7, 3)), return_state=True)
    >>> y.shape, len(state)
    ((2, 7, 5), 2)
    """

    _layer = staticmethod(R.rnn)
    _step = staticmethod(R.rnn_step)

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
        super().__init__(
            lambda n: RNNCell(n, hidden_features, rngs=rngs, **cell),
            in_features,
            hidden_features,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            return_state=return_state,
            rngs=rngs,
        )


class GRU(Recurrent):
    """Layers of gated recurrent units; each call is one call of `functional.stack` with `functional.gru`.

    Args:
      in_features: the number of input features.
      hidden_features: the number of hidden units of each layer and direction.
      layers: how many layers.
      bidirectional: whether every layer goes both ways; outputs are then twice as wide.
      dropout: the rate of dropout between layers.
      return_state: whether calls return `(outputs, states)` instead of the outputs alone, unless a call says otherwise.
      rngs: `params`, and `dropout` where there is some.
      **cell: what `GRUCell` takes: `reset_after`, `activation`, `gate_activation`, `dtype`, `param_dtype`, the
        initialisers. Sharding metadata comes with `nnx.with_partitioning` on an initialiser.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from jaxnn.modules import recurrent as modules
    >>> layer = modules.GRU(3, 5, bidirectional=True, rngs=nnx.Rngs(0))
    >>> y, (state,) = layer(jnp.ones((2, 7, 3)), return_state=True)
    >>> y.shape, state.backward.h.shape
    ((2, 7, 10), (2, 5))
    """

    _layer = staticmethod(R.gru)
    _step = staticmethod(R.gru_step)

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
        super().__init__(
            lambda n: GRUCell(n, hidden_features, rngs=rngs, **cell),
            in_features,
            hidden_features,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            return_state=return_state,
            rngs=rngs,
        )


class LSTM(Recurrent):
    """Layers of long short-term memory; each call is one call of `functional.stack` with `functional.lstm`.

    Args:
      in_features: the number of input features.
      hidden_features: the number of memory cells of each layer and direction.
      layers: how many layers.
      bidirectional: whether every layer goes both ways; outputs are then twice as wide.
      dropout: the rate of dropout between layers.
      return_state: whether calls return `(outputs, states)` instead of the outputs alone, unless a call says otherwise.
      projection: the number of output features of each layer and direction, where outputs are projected.
      rngs: `params`, and `dropout` where there is some.
      **cell: what `LSTMCell` takes: `peephole`, `coupled`, `layer_norm`, `forget_bias`, `activation`,
        `gate_activation`, `dtype`, `param_dtype`, the initialisers. Sharding metadata comes with
        `nnx.with_partitioning` on an initialiser.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from jaxnn.modules import recurrent as modules
    >>> layer = modules.LSTM(3, 5, layers=2, dropout=0.1, rngs=nnx.Rngs(0))
    >>> y, state = layer(jnp.ones((2, 7, 3)), lengths=jnp.array([7, 4]), return_state=True)
    >>> y.shape, state[-1].c.shape
    ((2, 7, 5), (2, 5))
    """

    _layer = staticmethod(R.lstm)
    _step = staticmethod(R.lstm_step)

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        return_state: bool = False,
        projection: int | None = None,
        rngs: nnx.Rngs,
        **cell: Any,
    ) -> None:
        super().__init__(
            lambda n: LSTMCell(n, hidden_features, projection=projection, rngs=rngs, **cell),
            in_features,
            hidden_features if projection is None else projection,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            return_state=return_state,
            rngs=rngs,
        )
