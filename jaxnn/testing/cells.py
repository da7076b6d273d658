"""Checks of a recurrent cell: shapes, purity, the optional parts, time, and every algorithm."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import jax

from jaxnn import keys
from jaxnn.functional.recurrent.cell import Cell
from jaxnn.testing.cell_checks import CHECKS, Subject, check_shapes
from jaxnn.testing.floating import as_sequences
from jaxnn.testing.names import check_names

Tree = Any
CellCheck = Literal["step", "batch", "project", "affine", "jacobian", "time", "algorithms"]


def assert_cell(
    cell: Cell,
    params: Tree,
    x: jax.typing.ArrayLike,
    *,
    checks: Sequence[CellCheck] | None = None,
    state: Tree | None = None,
    reduction: int | None = None,
    roundings: int | None = None,
    seed: int = 0,
) -> None:
    """Asserts that a recurrent cell keeps the contract of `functional.recurrent`.

    The checks use the dtype of `x`; if float64 is enabled, float64 inputs and parameters make the comparisons sharper.

    - `"step"`: `zero_state`, `step` and `output` return arrays `(*batch, ...)`. `step` keeps the shapes and dtypes of
      the state, and returns the same values for the same arguments, also in a new trace. The cell is hashable.
    - `"batch"`: each sequence of a batch gives the same result as alone, with any number of batch axes.
    - `"project"`: `advance` after `project` equals `step`, in values and gradients, and `project` gives the same for
      all steps at once as for one.
    - `"affine"`: `a * state + b` equals `step`, in values and gradients.
    - `"jacobian"`: the derivative of a step by its state is zero outside of the structure `cell.jacobian`, at several
      states, inputs and parameters around `params`. `"diagonal"` lets each element act on itself alone. `Blocks(n)`
      lets neighbours along the last axis of one array act on each other, or the elements at one position of `n` arrays
      of one shape.
    - `"time"`: lengths, masks, resets, reversal, chunks, streaming and their gradients, as in
      `assert_sequence_invariant`, by the algorithm "auto".
    - `"algorithms"`: every algorithm that supports the cell gives the values and gradients of "scan": forward, and in
      both directions with lengths, a mask and resets. This is the check of `fused`.

    Args:
        cell: The cell.
        params: Its parameters.
        x: `(batch, time, *features)` floats, at least 2 sequences of at least 4 steps.
        checks: Names of the checks. Default: all that apply to the cell.
        state: The state to check at, `(batch, ...)`. Default: random normal values, for integers their
            magnitudes; pass a state if not every value is valid.
        reduction: Number of products in each sum, for the tolerance; see `tolerance`. Default: the size of the largest
            leaf of `params`.
        roundings: See `tolerance`. Default: 8 per time step.
        seed: Seed of all random numbers.

    Raises:
        AssertionError: If a check fails; the message names the part of the cell and the worst element.
        ValueError: If a check is unknown or needs a part that the cell lacks, `cell` is not a functional cell, or `x`
            does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F, testing
        >>> def zero_state(decay, batch, dtype):
        ...     return jnp.zeros((*batch, *decay.shape), dtype)
        >>> def step(decay, state, x):
        ...     return jnp.broadcast_to(decay, x.shape) * state + x
        >>> def affine(decay, x):
        ...     return jnp.broadcast_to(decay, x.shape), x
        >>> decay, x = jnp.array([0.5, 0.9]), jnp.sin(jnp.arange(24.0)).reshape(3, 4, 2)
        >>> average = F.Cell(zero_state, step, affine=affine, jacobian="diagonal")
        >>> testing.assert_cell(average, decay, x, checks=["affine", "jacobian"])
        >>> wrong = average._replace(affine=lambda decay, x: affine(decay, 2 * x))
        >>> testing.assert_cell(wrong, decay, x, checks=["affine"])
        Traceback (most recent call last):
        ...
        AssertionError: cell.affine: a * state + b against cell.step: ...
    """
    if not isinstance(cell, Cell):
        raise ValueError(f"cell: expected a functional Cell, got {type(cell).__module__}.{type(cell).__name__}.")
    check_names("checks", checks, CHECKS)
    parts = [name for name in get_args(CellCheck) if getattr(cell, name, True) is not None]
    lacks = sorted(set(checks or ()) - set(parts))
    if lacks:
        raise ValueError(f"checks: expected those that apply to the cell, got {lacks[0]!r} without cell.{lacks[0]}")
    values = as_sequences(x, cell.feature_axes)
    cell, state = _without_keys(cell, params, values.dtype, state)
    try:
        with jax.default_matmul_precision("highest"):
            # Shapes first, whichever checks are chosen: the other checks would fail with another message.
            check_shapes(cell, params, values)
            subject = Subject(cell, params, values, state, reduction, roundings, seed)
            for check in parts if checks is None else checks:
                CHECKS[check](subject)
    except ValueError as refused:  # as `recurrent` refuses the cell
        raise AssertionError(str(refused)) from refused


def _without_keys(cell: Cell, params: Tree, dtype: Any, state: Tree | None) -> tuple[Cell, Tree | None]:
    """The cell, and a state of it, with the data of random keys instead of the keys, which NumPy cannot hold."""
    start = cell.zero_state(params, (), dtype)
    if not any(map(keys.is_key, jax.tree.leaves(start))):
        return cell, state
    data, typed = partial(jax.tree.map, keys.data_of), partial(jax.tree.map, keys.with_data, start)

    def advance(params: Tree, state: Tree, g: Tree) -> Tree:
        return data(cell.advance(params, typed(state), g))  # type: ignore[misc]

    plain = cell._replace(
        zero_state=lambda *args: data(cell.zero_state(*args)),
        step=lambda params, state, x: data(cell.step(params, typed(state), x)),
        output=lambda params, state: cell.output(params, typed(state)),
        advance=cell.advance and advance,
    )
    return plain, data(state)
