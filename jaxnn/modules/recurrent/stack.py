"""A recurrent layer of any cell: stacks of cells in one direction or both."""

from collections.abc import Sequence
from typing import Any, Literal, Unpack, overload

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional import arguments
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.run import RunOptions
from jaxnn.modules.names import explained
from jaxnn.modules.recurrent import driven
from jaxnn.modules.recurrent.cell import Cell

Layer = nnx.Module | F.Directions[nnx.Module]


class CallOptions(RunOptions, total=False):
    """Options of a call of a recurrent module, other than `return_state`."""

    state: Sequence[Any] | None
    deterministic: bool | None
    rngs: nnx.Rngs | nnx.RngStream | jax.Array | None


@explained
class Recurrent(nnx.Module):
    """Layers of any cells over whole sequences; each call is one call of `functional.stack`.

    A cell is one of this library (`LSTMCell`, or a `Cell` of any functional cell and its parameters), one of Flax
    (`nnx.GRUCell`), or your own module with the protocol of `nnx.RNN`: `(carry, x) -> (carry, y)`,
    `initialize_carry(input_shape, rngs)`, and `num_feature_axes` if an input has more or fewer than one. All options
    work with all cells. The state of a foreign cell is its carry, arrays `(*batch, ...)`. Such a cell must be a pure
    function: if a step changes anything but the carry (statistics, a random stream), or if the initial state is drawn
    at random, the call raises an error.

    Args:
        cells: One cell, `Directions(forward, backward)` for both directions, whose outputs are concatenated, or a
            sequence of these, lowest layer first.
        dropout: Rate of dropout between layers; `deterministic`, hence `model.eval()`, turns it off.
        return_state: Whether calls also return the final states, unless a call says otherwise.
        rngs: Random streams: `dropout`, if the rate is above 0.

    Attributes:
        cells: One cell per layer, lowest first, or a pair `Directions(forward, backward)`.
        bidirectional: Whether a layer runs in both directions.
        dropout: The rate.
        return_state: As given.

    Raises:
        ValueError: If a value is not a cell, or `dropout` is not in [0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import functional as F
        >>> from jaxnn import modules
        >>> rngs = nnx.Rngs(0)
        >>> both = F.Directions(nnx.GRUCell(3, 5, rngs=rngs), nnx.GRUCell(3, 5, rngs=rngs))
        >>> layer = modules.Recurrent([both, modules.LSTMCell(10, 4, rngs=rngs)], dropout=0.1, rngs=rngs)
        >>> y, state = layer(jnp.ones((2, 7, 3)), lengths=jnp.array([7, 4]), return_state=True)
        >>> y.shape, state[0].backward.shape, state[1].c.shape
        ((2, 7, 4), (2, 5), (2, 4))
    """

    def __init__(
        self,
        cells: Layer | Sequence[Layer],
        *,
        dropout: float = 0.0,
        return_state: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        several = isinstance(cells, Sequence) and not isinstance(cells, F.Directions | F.Cell)
        layers: list[Any] = [*cells] if several else [cells]  # type: ignore[misc]
        if not layers:
            raise ValueError("cells: expected at least one cell, got none; give one per layer.")
        for layer in layers:
            for cell in layer if isinstance(layer, F.Directions) else (layer,):
                _check(cell)
        check.rate("dropout", dropout)
        self.cells = nnx.data(layers)
        self.bidirectional = any(isinstance(layer, F.Directions) for layer in layers)
        self.dropout = float(dropout)
        self.return_state = return_state
        self.deterministic = False
        drops = dropout > 0 and len(layers) > 1
        self.rngs = rngs.dropout.fork() if drops and rngs is not None else nnx.data(None)

    def set_view(self, deterministic: bool | None = None) -> None:
        """Sets attributes for `nnx.view`.

        Args:
            deterministic: Whether dropout is off.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def zero_state(self, batch: tuple[int, ...] = (), dtype: Any = jnp.float32) -> tuple[Any, ...]:
        """The states of all layers before the first step.

        Args:
            batch: Batch axes of the inputs.
            dtype: Dtype of the inputs.

        Returns:
            The state of each layer, lowest first.

        Raises:
            ValueError: If `batch` is not a tuple of sizes, or a foreign cell has no attribute `in_features`, which
                `initialize_carry` needs.
        """
        batch = arguments.shape("batch", batch)

        def zero(cell: nnx.Module) -> Any:
            if isinstance(cell, Cell) and "initialize_carry" not in cell.overridden:
                return cell.zero_state(batch, dtype)
            if not hasattr(cell, "in_features"):
                raise ValueError(
                    f"zero_state: expected cells with an attribute in_features, got {type(cell).__name__} without; "
                    "set self.in_features in its __init__, since initialize_carry takes the shape of an input, or call "
                    "its initialize_carry."
                )
            return driven.start(cell, (*batch, cell.in_features), dtype)

        return tuple(jax.tree.map(zero, self.cells, is_leaf=lambda c: isinstance(c, nnx.Module)))

    @overload
    def __call__(
        self, x: jax.typing.ArrayLike, *, return_state: Literal[False], **options: Unpack[CallOptions]
    ) -> jax.Array: ...

    @overload
    def __call__(
        self, x: jax.typing.ArrayLike, *, return_state: Literal[True], **options: Unpack[CallOptions]
    ) -> tuple[jax.Array, tuple[Any, ...]]: ...

    @overload
    def __call__(
        self, x: jax.typing.ArrayLike, *, return_state: bool | None = None, **options: Unpack[CallOptions]
    ) -> Any: ...

    def __call__(
        self,
        x: jax.typing.ArrayLike,
        *,
        return_state: bool | None = None,
        state: Sequence[Any] | None = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
        **options: Unpack[RunOptions],
    ) -> Any:
        """Runs all layers over a sequence.

        Args:
            x: `(*batch, time, *features)`.
            return_state: Whether to return the final states too; the attribute by default.
            state: The initial state of each layer, lowest first; zeros by default.
            deterministic: Whether dropout is off; the attribute by default.
            rngs: Streams or a key for dropout; the module's streams by default.
            **options: How the sequence is run, as in `functional.recurrent`: `lengths`, `mask`, `reverse` (not for
                bidirectional layers), `resets`, `time_major`, `remat`, `truncate` and `algorithm`.

        Returns:
            The outputs `(*batch, time, ...)`; with `return_state` also the final state of each layer, lowest first, as
            in `(outputs, states)`.

        Raises:
            ValueError: As `functional.recurrent` and `functional.stack`.
        """
        off = self.deterministic if deterministic is None else deterministic
        dropout = 0.0 if off or len(self.cells) == 1 else self.dropout
        key = self._key(rngs) if dropout > 0 else None
        if not options.get("reverse"):
            options.pop("reverse", None)  # a bidirectional layer takes none
        y, states = F.stack(driven.run, self.cells, x, state, dropout=dropout, key=key, **options)
        return (y, states) if (self.return_state if return_state is None else return_state) else y

    @overload
    def step(
        self, state: Sequence[Any], x: jax.typing.ArrayLike, *, return_output: Literal[False] = False
    ) -> tuple[Any, ...]: ...

    @overload
    def step(
        self, state: Sequence[Any], x: jax.typing.ArrayLike, *, return_output: Literal[True]
    ) -> tuple[tuple[Any, ...], jax.Array]: ...

    def step(self, state: Sequence[Any], x: jax.typing.ArrayLike, *, return_output: bool = False) -> Any:
        """One step of all layers, without dropout; a loop of steps equals the whole call, up to rounding.

        Args:
            state: The state of each layer, at first `zero_state(batch)`.
            x: `(*batch, *features)`.
            return_output: Whether to return the output of the last layer too.

        Returns:
            The new state of each layer; with `return_output` also the output, as in `(states, y)`.

        Raises:
            ValueError: If the layers are bidirectional, or as `functional.recurrent_step`.
        """
        if self.bidirectional:
            raise ValueError(
                "step: expected layers of one direction, got bidirectional ones, which need the whole sequence; call "
                "the layer."
            )
        if hasattr(state, "_fields") or len(state) != len(self.cells):
            got = type(state).__name__ if hasattr(state, "_fields") else len(state)
            raise ValueError(
                f"state: expected a tuple with the state of each layer, {len(self.cells)}, got {got}; begin with "
                "layer.zero_state(batch), and of one layer write (state,)."
            )
        news = []
        for cell, before in zip(self.cells, state, strict=True):
            new, x = driven.step(cell, before, x)
            news.append(new)
        return (tuple(news), x) if return_output else tuple(news)

    def _key(self, rngs: nnx.Rngs | nnx.RngStream | jax.Array | None) -> jax.Array:
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError("rngs: expected a stream for dropout, got None; give rngs= to the layer or to the call.")
        if isinstance(source, nnx.Rngs):
            return source.dropout()
        return source() if isinstance(source, nnx.RngStream) else source


def _check(cell: Any) -> None:
    """Raises if a value is not a module cell."""
    if isinstance(cell, F.Cell):
        raise ValueError("cells: expected module cells, got a functional Cell; use modules.Cell(cell, params).")
    if not (isinstance(cell, nnx.Module) and callable(cell) and hasattr(cell, "initialize_carry")):
        what = cell.__name__ if isinstance(cell, type) else type(cell).__name__
        raise ValueError(
            f"cells: expected modules (carry, x) -> (carry, y) with initialize_carry, got {what}; make an instance "
            "of a cell, for example LSTMCell or nnx.GRUCell."
        )
