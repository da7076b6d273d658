"""The checks of `assert_cell`, and what they share: the cell under test, a state, and the tolerance."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.algorithms import ALGORITHMS
from jaxnn.functional.recurrent.associative import affine_parts
from jaxnn.functional.recurrent.cell import Cell, NotServedError
from jaxnn.functional.recurrent.run import recurrent
from jaxnn.functional.recurrent.task import Task
from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.masks import Masks
from jaxnn.testing import sequence_checks
from jaxnn.testing.comparison import assert_same
from jaxnn.testing.jacobian_check import check_jacobian
from jaxnn.testing.sequences import assert_sequence_invariant
from jaxnn.testing.trees import at, compiled, gradients, random_like, total

Tree = Any
Function = Callable[[Tree, Tree, Tree], Tree]


class Subject:
    """The cell under test, with a state and the tolerance for all checks."""

    def __init__(
        self,
        cell: Cell,
        params: Tree,
        x: jax.Array,
        state: Tree | None,
        reduction: int | None,
        roundings: int | None,
        seed: int,
    ) -> None:
        self.cell, self.params, self.x, self.seed = cell, params, x, seed
        self.batch, self.time = x.shape[:2]
        self.given = state
        like = jax.eval_shape(lambda: cell.zero_state(params, (self.batch,), x.dtype))
        self.state = random_like(like, seed) if state is None else state
        self.reduction, self.roundings = sequence_checks.sums(params, self.time, reduction, roundings)
        self.step = compiled(lambda *args: _step(cell, *args))

    def close(self, got: Tree, expected: Tree, what: str) -> None:
        """Asserts that two results agree."""
        got, expected = jax.tree.map(self._rounded, (got, expected))
        assert_same(got, expected, self.reduction, self.roundings, what)

    def _rounded(self, array: jax.Array) -> jax.Array:
        # In half precision two computations round at different places, which shows in the float32 parts of the state.
        half = jnp.finfo(self.x.dtype).bits < 32 and jnp.issubdtype(array.dtype, jnp.floating)
        return array.astype(self.x.dtype) if half else array

    def agree(self, function: Function, what: str) -> None:
        """Asserts that a function of parameters, state and an input is the cell's step, in values and gradients."""
        args = (self.params, self.state, self.x[:, 0])
        # Values first: where they differ, the gradients may not exist at all.
        _same_kind(jax.eval_shape(function, *args), jax.eval_shape(self.cell.step, *args), what)
        (got, new), (expected, due) = self._weighed(function)(*args), self._derived_step(*args)
        self.close(new, due, f"{what} against cell.step")
        for kind, ours, theirs in zip(("parameters", "the state", "the input"), got, expected, strict=True):
            self.close(ours, theirs, f"{what} against cell.step, gradients with respect to {kind}")

    @cached_property
    def _derived_step(self) -> Callable[..., Any]:
        return self._weighed(self.cell.step)

    def _weighed(self, step: Function) -> Callable[..., Any]:
        """The gradients of a weighted sum of a step's result, and the result."""
        weights = random_like(self.state, self.seed + 1)

        def run(params: Tree, state: Tree, x: jax.Array) -> tuple[jax.Array, Tree]:
            new = step(params, state, x)
            return total(new, weights), new

        return compiled(gradients(run, has_aux=True))


def _step(cell: Cell, params: Tree, state: Tree, x: jax.Array) -> tuple[Tree, Tree]:
    new = cell.step(params, state, x)
    return new, cell.output(params, new)


def check_shapes(cell: Cell, params: Tree, x: jax.Array) -> None:
    """Checks shapes, dtypes and structure of what the cell returns, for several batch shapes, as `recurrent` does."""
    try:
        hash(cell)
    except TypeError as error:
        raise AssertionError(f"cell: expected a hashable value, got {error}; put arrays into params") from None
    if cell.advance is not None and cell.project is None:
        raise AssertionError("cell.advance: expected cell.project beside it, got none; alone it is never called")
    for batch in ((), x.shape[:1], (*x.shape[:1], 1)):
        start = jax.eval_shape(lambda batch=batch: check.zero_state(cell, params, batch, x.dtype))
        xs: Any = jax.ShapeDtypeStruct((1, *batch, *x.shape[2:]), x.dtype)
        check.step(cell, Task(params, start, None, xs, Masks()))


def _check_step(s: Subject) -> None:
    zero = compiled(lambda params: [s.cell.zero_state(params, batch, s.x.dtype) for batch in ((), (s.batch,))])
    one, many = zero(s.params)
    same = jax.tree.map(lambda a: jnp.broadcast_to(a, (s.batch, *a.shape)), one)
    s.close(many, same, "cell.zero_state: over the batch, against no batch axes")
    args = (s.params, s.state, s.x[:, 0])
    first, again = s.step(*args), s.step(*args)
    anew = compiled(lambda *args: _step(s.cell, *args))(*args)
    for other, when in ((again, "called twice"), (anew, "traced twice")):
        for ours, theirs in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
            if not np.array_equal(np.asarray(ours), np.asarray(theirs), equal_nan=True):
                raise AssertionError(f"cell.step: {when} with the same arguments it returns other numbers")


def _check_batch(s: Subject) -> None:
    x = s.x[:, 0]
    together = s.step(s.params, s.state, x)
    for n in range(s.batch):
        alone = s.step(s.params, at(s.state, n), x[n])
        s.close(at(together, n), alone, f"cell.step: sequence {n} of a batch, against the sequence by itself")
    more = s.step(s.params, at(s.state, (slice(None), None)), x[:, None])
    s.close(at(more, (slice(None), 0)), together, "cell.step: two batch axes against one")


def _check_project(s: Subject) -> None:
    project: Any = s.cell.project
    advance = s.cell.advance
    x = jnp.moveaxis(s.x, 1, 0)
    whole, one = compiled(project)(s.params, x), compiled(project)(s.params, x[1])
    _same_kind(at(whole, 1), one, "cell.project for all steps at once, against one step")
    s.close(at(whole, 1), one, "cell.project: all steps at once against one step")
    if advance is not None:
        s.agree(lambda params, state, x: advance(params, state, project(params, x)), "cell.advance: after project")


def _check_affine(s: Subject) -> None:
    def step(params: Tree, state: Tree, x: jax.Array) -> Tree:
        a, b = affine_parts(s.cell, Task(params, state, None, x[None], Masks()))
        return jax.tree.map(lambda a, h, b: (a[0] * widened(h) + b[0]).astype(h.dtype), a, state, b)

    s.agree(step, "cell.affine: a * state + b")


def _check_time(s: Subject) -> None:
    assert_sequence_invariant(
        partial(recurrent, s.cell),
        s.params,
        s.x,
        checks=list(sequence_checks.CHECKS),
        step=s.cell.step,
        output=s.cell.output,
        reduction=s.reduction,
        roundings=s.roundings,
        state=s.given,
        seed=s.seed,
    )


def _check_algorithms(s: Subject) -> None:
    rng = np.random.default_rng(s.seed)
    masks = {
        "lengths": np.linspace(1, s.time, s.batch).astype(np.int32),
        "mask": rng.random((s.batch, s.time)) < 0.7,
        "resets": rng.random((s.batch, s.time)) < 0.3,
    }
    for options in ({}, masks, {**masks, "reverse": True}):
        expected = _run(s, "scan", options)
        for name in ALGORITHMS:
            # "scan" is the reference of the others, and "auto" is one of them: `_check_time` runs it.
            if name in ("scan", "auto"):
                continue
            try:
                got = _run(s, name, options)
            except NotServedError:
                continue
            part = f"cell.{name}" if name in Cell._fields else "cell"
            what = f"{part}: algorithm={name!r} against 'scan'" + "".join(f", {option}" for option in options)
            (y, final), grads = got
            (y_due, final_due), grads_due = expected
            s.close(y, y_due, f"{what}: outputs")
            s.close(final, final_due, f"{what}: final state")
            for kind, ours, theirs in zip(("parameters", "inputs", "the state"), grads, grads_due, strict=True):
                s.close(ours, theirs, f"{what}: gradients with respect to {kind}")


def _run(s: Subject, algorithm: str, options: Any) -> tuple[Tree, Tree]:
    """Outputs and final state, and the gradients of a random projection of them."""
    run: Callable[..., Any] = partial(recurrent, s.cell, algorithm=algorithm, **options)
    weights = random_like(jax.eval_shape(run, s.params, s.x, s.state), s.seed + 1)

    def weighed(params: Tree, x: jax.Array, state: Tree) -> tuple[jax.Array, Tree]:
        result = run(params, x, state)
        return total(result, weights), result

    found, result = compiled(gradients(weighed, has_aux=True))(s.params, s.x, s.state)
    return result, found


CHECKS: dict[str, Callable[[Subject], None]] = {
    "step": _check_step,
    "batch": _check_batch,
    "project": _check_project,
    "affine": _check_affine,
    "jacobian": lambda s: check_jacobian(s.cell, s.params, s.state, s.x, seed=s.seed, given=s.given is not None),
    "time": _check_time,
    "algorithms": _check_algorithms,
}


def _same_kind(got: Tree, expected: Tree, what: str) -> None:
    """Asserts one structure, and the shapes and dtypes of every leaf."""
    structures: list[Any] = [jax.tree.structure(tree) for tree in (got, expected)]
    if structures[0] != structures[1]:
        raise AssertionError(f"{what}: expected the structure {structures[1]}, got {structures[0]}")
    for (path, ours), theirs in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        for is_, due in ((f"shape {ours.shape}", f"shape {theirs.shape}"), (ours.dtype, theirs.dtype)):
            if is_ != due:
                at = f" at {jax.tree_util.keystr(path)}" if path else ""
                raise AssertionError(f"{what}: expected {due}{at}, got {is_}")
