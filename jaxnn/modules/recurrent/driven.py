"""Cells of Flax, or your own modules, converted to functional cells and run by `functional.recurrent`."""

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional.bound import Bound, Static
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.run import RunOptions
from jaxnn.modules.recurrent.cell import Cell, cast


def run(cell: nnx.Module, x: jax.Array, state: Any = None, **options: Unpack[RunOptions]) -> tuple[Any, Any]:
    """`functional.recurrent` with a module cell; a layer for `functional.stack`.

    Args:
        cell: A `Cell`, or a module `(carry, x) -> (carry, y)` with `initialize_carry`, as `nnx.RNN` takes it.
        x: `(*batch, time, *features)`.
        state: The initial state; for a foreign cell, its carry.
        **options: As in `functional.recurrent`.

    Returns:
        The outputs and the final state.

    Raises:
        ValueError: As `functional.recurrent`; if a foreign cell changes more than its carry in a step, or draws its
            initial state at random and no `state` is given.
    """
    if isinstance(cell, Cell) and not cell.overridden:
        params, x = cast(cell, x)
        return F.recurrent(cell.cell, params, x, state, **options)
    x = check.array(x)
    axes = getattr(cell, "num_feature_axes", 1)
    leading, features = x.shape[: x.ndim - axes], x.shape[x.ndim - axes :]
    graph, arrays = nnx.split(cell)
    # A given state replaces the initial one, unless a reset needs that.
    replaced = state is not None and options.get("resets") is None
    definition = Static(_Definition(graph, features, replaced))
    driven = F.Cell(Bound(_zero_state, of=definition), Bound(_step, of=definition), _output, axes)
    if state is not None:
        batch = leading[1:] if options.get("time_major") else leading[:-1]
        zeros = driven.zero_state(arrays, batch, x.dtype)
        check.state(state, zeros.carry, batch, x.dtype)
        state = zeros._replace(carry=state)
    y, final = F.recurrent(driven, arrays, x, state, **options)
    return y, final.carry


def step(cell: nnx.Module, state: Any, x: jax.typing.ArrayLike) -> tuple[Any, Any]:
    """One step of a module cell: the new state and the output; raises if the cell does not return these two."""
    new = cell(state, x)
    # A named tuple with two fields is a state, not a pair.
    if type(new) is not tuple or len(new) != 2:
        raise ValueError(
            f"cell: expected {type(cell).__name__} to return (carry, y), got {type(new).__name__}; return both, as a "
            "tuple."
        )
    return new


def start(cell: Any, input_shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> Any:
    """The initial state of a foreign cell, for inputs of one step of this shape and dtype."""
    if isinstance(cell, Cell) and "initialize_carry" not in cell.overridden:
        return cell.zero_state(input_shape[: len(input_shape) - cell.num_feature_axes], dtype)
    return cell.initialize_carry(input_shape, _NothingDrawn())


class _State(NamedTuple):
    """State of a foreign cell while it runs: its carry, and its output, which the carry need not contain."""

    carry: Any
    y: Any


class _Definition(NamedTuple):
    """The static part of a functional cell: the module without its arrays, and the feature axes of its inputs."""

    graph: nnx.GraphDef
    features: tuple[int, ...]
    replaced: bool


def _zero_state(arrays: Any, batch: tuple[int, ...], dtype: jax.typing.DTypeLike, *, of: Static) -> _State:
    graph, features, replaced = of.value
    shape = (*batch, *features)

    def begin(module: Any) -> Any:
        return (
            module.initialize_carry(shape, nnx.RngStream(0, tag="carry")) if replaced else start(module, shape, dtype)
        )

    carry = _pure(begin, graph, arrays)
    x = jax.ShapeDtypeStruct(shape, dtype)
    _, y = jax.eval_shape(lambda carry, x: _pure(lambda module: step(module, carry, x), graph, arrays), carry, x)
    return _State(carry, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), y))


def _step(arrays: Any, state: _State, x: jax.Array, *, of: Static) -> _State:
    return _State(*_pure(lambda module: step(module, state.carry, x), of.value.graph, arrays))


def _output(arrays: Any, state: _State) -> Any:
    del arrays
    return state.y


def _pure(function: Callable[[nnx.Module], Any], graph: nnx.GraphDef, arrays: Any) -> Any:
    """The result of a function of the module; raises if it changes the module, since the change would be lost."""
    # New variables: those of `arrays` may belong to an outer trace, and a merged module writes into its variables.
    module = nnx.merge(graph, jax.tree.map(lambda a: a, arrays))
    result = function(module)
    after, new = nnx.split(module)
    changed = [
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        for (path, a), b in zip(jax.tree.leaves_with_path(new), jax.tree.leaves(arrays), strict=False)
        if a is not b
    ]
    if changed or after != graph:
        raise ValueError(
            f"cell: expected {type(module).__name__} to change nothing but its carry, got another "
            f"{', '.join(changed) or 'attribute'} after a step; keep it in the carry, call the layer in evaluation "
            "(model.eval()) if it is a random stream of dropout, or drive the cell with nnx.RNN."
        )
    return result


class _NothingDrawn:
    """A random stream for initial states that are not random: raises when a key is drawn."""

    def __call__(self) -> "_NothingDrawn":
        return self

    def __getattr__(self, name: str) -> Any:
        raise ValueError(
            "cell: expected an initialize_carry that draws nothing, since every call would start from the same "
            "numbers, got one that draws; give state=, made by cell.initialize_carry(shape, rngs)."
        )
