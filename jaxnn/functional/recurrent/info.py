"""Reports on the convergence of iterative algorithms."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.functional.exportable import exportable
from jaxnn.functional.recurrent import algorithms
from jaxnn.functional.recurrent.cell import Cell, State
from jaxnn.functional.recurrent.newton import Newton, ReportingNewton
from jaxnn.functional.recurrent.run import recurrent


@exportable
class NewtonInfo(NamedTuple):
    """Convergence of Newton's method.

    Attributes:
        iterations: Int32 scalar: the number of iterations, at most `Newton.iterations`.
        residual: Float32 `(*batch,)`: the error of the states in the equations, the largest over time of
            `|f(h_{t-1}, x_t) - h_t| / (1 + |h_t|)`.
        converged: Bool `(*batch,)`: whether the last iteration changed no state by more than the tolerance.
    """

    iterations: jax.Array
    residual: jax.Array
    converged: jax.Array


def recurrent_with_info(
    cell: Cell,
    params: Any,
    x: jax.typing.ArrayLike,
    state: State = None,
    *,
    algorithm: str | Newton = "newton",
    **options: Any,
) -> tuple[Any, State, NewtonInfo]:
    """Runs `recurrent` by Newton's method and reports its convergence.

    The report shows whether a cell and its weights suit the method. This is a separate function because `recurrent`,
    layers, stacks and modules return the same pair for every algorithm.

    Args:
        cell: As in `recurrent`.
        params: As there.
        x: As there.
        state: As there.
        algorithm: `"newton"`, `"quasi-newton"` or a `Newton`.
        **options: The other options of `recurrent`. With `remat`, each block of steps iterates separately; the info is
            the largest of all blocks.

    Returns:
        The outputs, the final state, both as `recurrent` returns them, and a `NewtonInfo`.

    Raises:
        ValueError: If the algorithm does not iterate, or as `recurrent` raises.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> cell, params = F.gru_cell(), F.init_gru(jax.random.key(0), features=3, hidden=4)
        >>> x = jax.random.normal(jax.random.key(1), (2, 50, 3))
        >>> few = F.Newton(jacobian="diagonal", iterations=2)
        >>> y, state, info = F.recurrent_with_info(cell, params, x, algorithm=few)
        >>> y.shape, int(info.iterations), info.converged.tolist()  # not converged: the outputs are those of the scan
        ((2, 50, 4), 2, [False, False])
    """
    chosen = algorithms.choose(algorithm)
    if not isinstance(chosen, Newton):
        raise ValueError(f"algorithm: expected 'newton', 'quasi-newton' or a Newton, got {algorithm!r}; use recurrent.")
    (ys, report), final = recurrent(cell, params, x, state, algorithm=ReportingNewton(**vars(chosen)), **options)
    time = 0 if options.get("time_major") else report.residual.ndim - 1
    info = NewtonInfo(
        jnp.max(report.iterations, initial=0),
        jnp.max(report.residual, axis=time, initial=0),
        jnp.all(report.converged, axis=time),
    )
    return ys, final, info
