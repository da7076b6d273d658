"""The algorithms "newton" and "quasi-newton": the states of all steps at once, as the solution of one equation."""

import dataclasses
import functools
import math
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.counts import check_count
from jaxnn.functional.recurrent.cell import Blocks, Cell, NotServedError, State
from jaxnn.functional.recurrent.jacobian import (
    check_state,
    check_structure,
    coefficients,
    filled,
    groups,
    part_of,
    ungrouped,
)
from jaxnn.functional.recurrent.scan import blocks, scan
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.functional.recurrent.trajectory import (
    Equations,
    at_every_step,
    differentiable,
    length,
    one_by_one,
    shifted,
    step_from,
)
from jaxnn.kernels.geometry import known
from jaxnn.kernels.linear_recurrence import applied, linear_recurrence
from jaxnn.kernels.masks import choose, counted, zeros
from jaxnn.kernels.platform import varying_as
from jaxnn.kernels.settings import default_precision

# Measured over 256 steps with random weights: elementwise tanh, GRU and LSTM cells took 4 to 6 iterations, GRU and LSTM
# with three times the recurrent weights 28 to 40. An iteration costs more arithmetic than a forward pass of "scan", so
# even parallel hardware makes up for only a limited number of them.
ITERATIONS = 16


class Report(NamedTuple):
    """The convergence at every step `(time, *batch)`; `NewtonInfo` documents the fields."""

    iterations: jax.Array
    residual: jax.Array
    converged: jax.Array


@dataclasses.dataclass(frozen=True)
class Newton:
    r"""Settings of Newton's method for a recurrence, a value for `algorithm=`. `"newton"` means `Newton()`.

    The states of all steps solve the equations :math:`h_t = f(h_{t-1}, x_t)`. The first guess is :math:`f(h_0, x_t)`
    with the cell's zero state :math:`h_0`. Each iteration evaluates and linearises all steps at once, and solves the
    linear recurrence

    .. math:: h_t = f(g_{t-1}, x_t) + J_t (h_{t-1} - g_{t-1})

    for the new states :math:`h`, given the last ones :math:`g`. That takes O(log time) sequential operations.
    Derivatives, of any order and in both modes, are those of the equations and not of the iterations: they take one
    more linear recurrence (implicit function theorem).

    The method supports cells that declare the structure of :math:`J` in `Cell.jacobian`. `Newton(jacobian="diagonal")`,
    which is `"quasi-newton"`, uses the diagonal of any cell's Jacobian instead. Its results are also correct, but it
    needs more iterations, and each multiplies by the Jacobian once for every element of the state. The derivatives of a
    cell that declares no structure are computed step by step.

    It suits hardware that computes many steps at once, long sequences, small batches, and cells that forget, by gates
    or by small recurrent weights. On CPU "scan" does less work. LSTM and GRU with dense recurrent weights do not
    profit: they took 29 iterations with their initial weights, and did not converge with weights as large as after
    training. So `"auto"` never chooses this method, and `lstm_cell()`, `gru_cell()` and `rnn_cell()` declare no
    structure. Under `vmap` the scan of `otherwise="scan"` always runs; use batch axes instead. With `remat`, blocks of
    that many steps are solved one after another. JAX rejects a `jax.custom_vjp` in the cell, which has no forward-mode
    derivative; write a `jax.custom_jvp`.

    Attributes:
        tolerance: A sequence has converged when no element of its states changes by more than this, relative to
            `1 + |state|`. Default: :math:`\sqrt\epsilon`, with the largest :math:`\epsilon` among the state's dtypes
            (3.5e-4 for float32, 1.5e-8 for float64, 0.09 for bfloat16), because the error that remains is proportional
            to the square of the change. If `jacobian` is given, the error is proportional to the change, and the
            default is :math:`16 \epsilon`.
        iterations: Largest number of iterations.
        otherwise: What to do if sequences have not converged by then. `"scan"` computes all of them step by step, in
            the same program. `"nan"` makes the states and outputs of those sequences NaN. `recurrent_with_info` reports
            which sequences they are.
        jacobian: The part of the Jacobian to use, `"diagonal"` or `Blocks(n)`. Default: all that the cell declares.

    Raises:
        ValueError: If an attribute is out of its range.

    References:
        Lim, Zhu, Selfridge, Kasim: Parallelizing non-linear sequential models over the sequence length, 2024 (DEER).
        Gonzalez, Warrington, Smith, Linderman: Towards scalable and stable parallelization of nonlinear RNNs, 2024
        (quasi-DEER). Danieli et al.: ParaRNN: unlocking parallel training of nonlinear RNNs for large language models,
        2025 (blocks).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> def zero_state(decay, batch, dtype):
        ...     return jnp.zeros((*batch, *decay.shape), dtype)
        >>> def step(decay, state, x):
        ...     return jnp.tanh(jnp.broadcast_to(decay, x.shape) * state + x)
        >>> cell = F.Cell(zero_state, step, jacobian="diagonal")
        >>> decay, x = jnp.full(4, 0.5), jax.random.normal(jax.random.key(0), (100, 4))
        >>> y, _ = F.recurrent(cell, decay, x, algorithm="newton")
        >>> expected, _ = F.recurrent(cell, decay, x, algorithm="scan")
        >>> bool(jnp.allclose(y, expected, atol=1e-6))
        True
        >>> y, _ = F.recurrent(cell, decay, x, algorithm=F.Newton(iterations=1, otherwise="nan"))
        >>> bool(jnp.isnan(y).all())
        True
    """

    tolerance: float | None = None
    iterations: int = ITERATIONS
    otherwise: Literal["scan", "nan"] = "scan"
    jacobian: Literal["diagonal"] | Blocks | None = None

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance: expected a number of at least 0, or None, got {self.tolerance!r}")
        check_count("iterations", self.iterations)
        if self.otherwise not in ("scan", "nan"):
            raise ValueError(f"otherwise: expected 'scan' or 'nan', got {self.otherwise!r}")
        if self.jacobian is not None:
            check_structure("jacobian", self.jacobian)

    def __call__(self, cell: Cell, task: Task, options: Options) -> tuple[Any, State]:
        """As `scan.scan`."""
        (ys, _), final = self._run(cell, task, options)
        return ys, final

    def _run(self, cell: Cell, task: Task, options: Options) -> tuple[tuple[Any, Report], State]:
        part = self._part(cell, task)
        if length(task.xs) == 0:
            ys, final = scan(cell, task, options)
            nothing = jnp.zeros(task.xs.shape[: task.xs.ndim - cell.feature_axes], jnp.float32)
            return (ys, Report(nothing.astype(jnp.int32), nothing, nothing == 0)), final
        return blocks(partial(self._solved, cell, part, options.reverse), task, options)

    def _part(self, cell: Cell, task: Task) -> Any:
        if cell.jacobian is not None:
            check_structure("cell.jacobian", cell.jacobian)
        part = cell.jacobian if self.jacobian is None else self.jacobian
        if part is None:
            raise NotServedError(
                "no structure of this cell's Jacobian (Cell.jacobian), which 'quasi-newton' does without"
            )
        batch_axes = task.xs.ndim - 1 - cell.feature_axes
        for structure in {part, cell.jacobian} - {None}:
            check_state(structure, task.state, batch_axes)
        if not known(length(task.xs)):
            raise NotServedError("no support for a symbolic number of steps")
        return part

    def _solved(self, cell: Cell, part: Any, reverse: bool, task: Task) -> tuple[tuple[Any, Report], State]:
        """The outputs, the report and the final state, for steps that are solved at once."""
        leading = task.xs.ndim - cell.feature_axes
        batch = task.xs.shape[1:leading]
        zero = jax.tree.map(partial(varying_as, task.xs), cell.zero_state(task.params, batch, task.xs.dtype))
        xs, step = counted(task.masks, task.xs), cell.step
        if cell.project is not None and cell.advance is not None:
            xs, step = cell.project(task.params, xs), cell.advance
        equations, task = Equations(step, reverse, cell.jacobian), task._replace(xs=xs)
        # `truncate` cuts only the derivatives of the result; the iteration needs the full Jacobian.
        given = jax.lax.stop_gradient(task._replace(masks=task.masks._replace(detached=None)))
        found, report = self._found(equations, part, given, jax.lax.stop_gradient(zero), leading)
        states = differentiable(equations, default_precision(), jax.lax.stop_gradient(found), task)
        ys = at_every_step(cell.output, task.params, states)
        if task.masks.inside is not None:
            ys = choose(task.masks.inside, ys, zeros(ys))
        return (ys, report), jax.tree.map(lambda a: a[0 if reverse else -1], states)

    def _found(self, equations: Equations, part: Any, task: Task, zero: State, leading: int) -> tuple[State, Report]:
        """The states after every step (as `otherwise` says if they did not converge), and the report."""
        time, tolerance = length(task.xs), self._tolerance(zero)
        guess = step_from(equations, task, jax.tree.map(lambda a: jnp.broadcast_to(a, (time, *a.shape)), zero))
        change = filled(jnp.max(largest(guess, guess, leading), axis=0), math.inf)

        def unsettled(carry: Any) -> jax.Array:
            count, _, change = carry
            # A change that is NaN stays NaN, so it must not keep the loop running.
            return (count < self.iterations) & jnp.any(change > tolerance)

        def improved(carry: Any) -> Any:
            count, states, _ = carry
            states, correction = improve(equations, part, task, states, leading)
            return count + 1, states, jnp.max(largest(correction, states, leading), axis=0)

        count, states, change = jax.lax.while_loop(unsettled, improved, (jnp.int32(0), guess, change))
        converged = change <= tolerance
        again = step_from(equations, task, shifted(task.state, states, equations.reverse))
        residual = largest(jax.tree.map(jnp.subtract, again, states), states, leading)
        report = Report(*(jnp.broadcast_to(a, residual.shape) for a in (count, residual, converged)))
        if self.otherwise == "nan":
            nan = jax.tree.map(lambda a: filled(a, math.nan), states)
            return choose(report.converged, states, nan), report
        return jax.lax.cond(jnp.all(converged), lambda: states, lambda: one_by_one(equations, task)), report

    def _tolerance(self, state: State) -> float:
        if self.tolerance is not None:
            return self.tolerance
        eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(state))
        return math.sqrt(eps) if self.jacobian is None else 16 * eps


class ReportingNewton(Newton):
    """`Newton` whose outputs are a pair: the cell's outputs and the `Report`."""

    def __call__(self, cell: Cell, task: Task, options: Options) -> tuple[Any, State]:
        """As `scan.scan`, but for the outputs."""
        return self._run(cell, task, options)


def improve(equations: Equations, part: Any, task: Task, states: State, leading: int) -> tuple[State, State]:
    """One iteration: the new states, and by how much they differ from the last."""
    before = shifted(task.state, states, equations.reverse)
    new, push = jax.linearize(partial(step_from, equations, task), before)
    a = coefficients(part, push, before) if part == equations.jacobian else part_of(part, push, before, leading)
    steps, last = groups(part, new), groups(part, states)
    d = linear_recurrence(a, [n - s for n, s in zip(steps, last, strict=True)], reverse=equations.reverse)
    # `f(g) + J d` and not `g + d`: after convergence, states are exactly those that the step computes.
    moved = shifted([filled(one[0], 0.0) for one in d], d, equations.reverse)
    better = [n + applied(*pair) for n, *pair in zip(steps, a, moved, strict=True)]
    return ungrouped(part, better, states), ungrouped(part, d, states)


def largest(change: State, state: State, leading: int) -> jax.Array:
    """The largest change relative to `1 + |state|`, over all but the first `leading` axes, in float32."""

    def one(change: jax.Array, state: jax.Array) -> jax.Array:
        relative = (jnp.abs(change) / (1 + jnp.abs(state))).astype(jnp.float32)
        return jnp.max(relative, axis=tuple(range(leading, change.ndim)), initial=0)

    return functools.reduce(jnp.maximum, map(one, jax.tree.leaves(change), jax.tree.leaves(state)))
