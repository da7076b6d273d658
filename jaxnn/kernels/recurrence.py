"""A recurrence with a cheap derivative on CPU: one driver for every cell.

If a scan over whole steps is differentiated, the backward scan carries the weights' gradients: every step computes a
product that is too thin to be fast, and adds to every weight. Here the derivative is split in two, as in cuDNN and
PyTorch:

- *outside* time, one product per weight over all steps: the contribution of the tangents of inputs and weights to the
  pre-activations;
- *along* time only the state's own tangent, `d_t = A_t d_{t-1} + e_t`, with the coefficients of `A_t` saved by the
  forward scan.

Both are written as the forward derivative (`jax.custom_jvp`). They are plain linear operations, so JAX transposes them:
into a backward scan that carries only the state's cotangent, and one product per weight after it. Forward mode, second
derivatives and `vmap` come from JAX too.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxnn import processor
from jaxnn.kernels.accumulate import accumulator
from jaxnn.kernels.geometry import known
from jaxnn.kernels.masks import Masks, choose, counted, entered, kept, restarted, zeros
from jaxnn.kernels.platform import varying_as
from jaxnn.kernels.settings import default_precision, is_plain, settled
from jaxnn.kernels.step_products import product
from jaxnn.kernels.walk import Walks

Weights = Any
Carry = tuple[jax.Array, ...]
Saved = Any

# Largest number of sequences for which the inputs' products are computed for all steps at once. With more, the product
# of one step has enough rows to run at full speed, and its result is still in the cache when the gates read it.
PROJECT_FIRST = 2

# XLA:CPU repacks the right operand of a product in every step. "Units first" puts the weights on the left, and the
# sequences are columns. Its time as a multiple of that of rows, training / forward, measured in turns:
#
#     units, sequences     AVX2          units, sequences     AVX-512, JAX 0.10.2     JAX 0.12
#     256, 32              0.82 / 0.78   256, 32              1.06 / 1.06             1.09 / 0.96
#     256, 8               0.85 / 0.9    256, 16              1.2 / 1.0               1.2 / 1.15
#     256, 4               0.8 / 1.1     128, 64              1.11 / 1.07             1.13 / 1.06
#     128, 16              0.97 / 0.98   512, 128             1.0 / 0.9               1.0 / 1.0
#     128, 8               1.0 / 1.1
#     64, 32               1.05 / 1.0
#     64, 8                1.1 / 1.2
ROWS_ARE_FAST = "avx512f" in processor.features()
UNITS_FIRST_WIDTH = 512  # smallest number of gates' units
UNITS_FIRST_SIZE = 8192  # smallest number of these times sequences

# XLA:CPU gives its threads the columns of a product in pieces that are too few to share evenly, and a thread without
# work falls asleep. Two products of half the columns wait less. Their time as a multiple of that of one, with 256
# units, two cores, AVX-512, both versions of JAX, training / forward: 0.95 / 0.84 with 32 sequences, 0.9 / 0.8 with
# 16, 0.92 / 0.86 with 4; on one core 1.0. With fewer weights forward takes up to 1.2.
HALVED_SIZE = 150_000  # smallest number of weights


class NotServedError(ValueError):
    """An algorithm does not support a cell; the text completes "algorithm='...' has"."""


class Cell(NamedTuple):
    """One recurrent layer, as the driver needs it.

    Weights are a named tuple, and carries a tuple whose first part is the output.

    Attributes:
        prepare: `weights -> prepared`: what `project` and `step` need of the weights, computed once.
        transpose: `weights -> transposed`: the recurrent weights in the form that the backward scan reads.
        project: `(prepared, xs) -> gates`: the inputs' products over all steps at once, an array for each gate.
        step: `(prepared, carry, x) -> (carry, saved)`, where `x` is the input of one step, or the tuple that `project`
            made of it. `saved` is what `outside` and `along` need from this step.
        outside: `(weights, d_weights, xs, d_xs, saved) -> e`: the contribution of the tangents to the pre-activations,
            for all steps at once. Zero tangents are `None`.
        along: `(transposed, saved, d_carry, e) -> d_carry`: one step of the tangent, linear in `d_carry` and `e`.
        walks: The same steps for `kernels.persistent`, or None; `w_h` must then be the recurrent weights.
        units_first: The same layer with units as the first axis of a step's arrays, `(units, *batch)`: inputs of all
            steps are `(time, features, *batch)`, and masks `(time, 1, *batch)`. It has no `project`.
    """

    prepare: Callable[..., Any]
    transpose: Callable[..., Any]
    project: Callable[..., Any] | None
    step: Callable[..., tuple[Carry, Saved]]
    outside: Callable[..., Any]
    along: Callable[..., Carry]
    walks: Walks | None = None
    units_first: "Cell | None" = None


class Run(NamedTuple):
    """The arrays that a cell runs over.

    Attributes:
        weights: The cell's weights.
        carry: The state before the first step.
        restart: The state at the start of a sequence, as `masks.restarted` takes it.
        xs: `(time, *batch, features)`.
        masks: Which steps count, reset the state or stop derivatives.
    """

    weights: Weights
    carry: Carry
    restart: Carry | None
    xs: jax.Array
    masks: Masks


def recurrence(cell: Cell, reverse: bool, run: Run) -> tuple[jax.Array, Carry]:
    """Runs a cell; returns the outputs `(time, *batch, output)` and the last carry."""
    if is_plain():
        return _values(cell, reverse, run)
    if cell.units_first is None or not _puts_units_first(run):
        return _recurrence(cell, reverse, default_precision(), run)
    ys, carry = _recurrence(cell.units_first, reverse, default_precision(), _with_units_first(run))
    return units_last(ys, 1), tuple(units_last(part) for part in carry)


def _puts_units_first(run: Run) -> bool:
    sequences, width = math.prod(run.xs.shape[1:-1]), run.weights.b.shape[0]
    many = known(sequences) and width >= UNITS_FIRST_WIDTH and sequences * width >= UNITS_FIRST_SIZE
    return many and not ROWS_ARE_FAST


def _with_units_first(run: Run) -> Run:
    carry = tuple(units_first(part) for part in run.carry)
    restart = None if run.restart is None else tuple(units_first(part) for part in run.restart)
    inside, reset = (None if mask is None else mask[:, None] for mask in run.masks[:2])
    return Run(run.weights, carry, restart, units_first(run.xs, 1), Masks(inside, reset, run.masks.detached))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _recurrence(cell: Cell, reverse: bool, precision: str | None, run: Run) -> tuple[jax.Array, Carry]:
    return _values(cell, reverse, run)


def _values(cell: Cell, reverse: bool, run: Run) -> tuple[jax.Array, Carry]:
    ys, carry, _ = _forward(cell, reverse, run._replace(xs=counted(run.masks, run.xs)), save=False)
    return ys, carry


def _jvp(cell: Cell, reverse: bool, precision: str | None, primals: Any, tangents: Any) -> Any:
    with settled(primals, precision or default_precision()):
        return _derivative(cell, reverse, *primals, *tangents)


def _derivative(cell: Cell, reverse: bool, run: Run, tangents: Run) -> Any:
    d_run = jax.tree.map(
        lambda t: None if isinstance(t, SymbolicZero) else t, tangents, is_leaf=lambda t: isinstance(t, SymbolicZero)
    )
    run = run._replace(xs=counted(run.masks, run.xs))
    d_xs = None if d_run.xs is None else counted(run.masks, d_run.xs)
    ys, last, saved = _forward(cell, reverse, run, save=True)
    d_carry = _filled(d_run.carry, run.carry)
    d_restart = None if run.restart is None else _filled(d_run.restart, run.restart)
    transposed = cell.transpose(run.weights)
    added = cell.outside(run.weights, d_run.weights, run.xs, d_xs, saved)

    def body(d: Carry, step: Any) -> tuple[Carry, jax.Array]:
        added, saved, masks = step
        if masks.detached is not None:
            d = choose(masks.detached, zeros(d), d)
        d = restarted(masks, d, d_restart)
        new = cell.along(transposed, saved, d, added)
        return kept(masks, new, d, new[0])

    d_last, d_ys = jax.lax.scan(body, d_carry, (added, saved, run.masks), reverse=reverse)
    return (ys, last), (d_ys, d_last)


_recurrence.defjvp(_jvp, symbolic_zeros=True)


def _forward(cell: Cell, reverse: bool, run: Run, *, save: bool) -> tuple[jax.Array, Carry, Saved]:
    prepared, xs = cell.prepare(run.weights), run.xs
    sequences = math.prod(xs.shape[1:-1])
    if cell.project is not None and known(sequences) and sequences <= PROJECT_FIRST:
        xs = cell.project(prepared, xs)

    def body(carry: Carry, step: Any) -> tuple[Carry, Any]:
        x, masks = step
        carry = entered(masks, carry, run.restart)  # detached for second derivatives, which go through `saved`
        new, saved = cell.step(prepared, carry, x)
        new, y = kept(masks, new, carry, new[0])
        return new, (y, saved if save else None)

    last, (ys, saved) = jax.lax.scan(body, run.carry, (xs, run.masks), reverse=reverse)
    return ys, last, saved


def _filled(tangents: Any, like: Carry) -> Carry:
    """Replaces missing tangents, `None`, by zeros."""
    return tuple(varying_as(c, jnp.zeros_like(c)) if d is None else d for c, d in zip(like, tangents, strict=True))


# The parts of cells.


def dot(a: jax.Array, w: jax.Array) -> jax.Array:
    """`a @ w`, summed and returned in at least float32."""
    return jnp.dot(a, w, preferred_element_type=accumulator(a.dtype))


def halves(w: jax.Array) -> tuple[jax.Array, ...]:
    """The halves of the columns that `dot_halved` takes; none where one product is faster on CPU."""
    return tuple(jnp.split(w, 2, axis=1)) if ROWS_ARE_FAST and w.size >= HALVED_SIZE else ()


def dot_halved(a: jax.Array, w: jax.Array, halves: tuple[jax.Array, ...]) -> jax.Array:
    """`a @ w`; on CPU as the products of the halves, which are split outside of the loop."""
    if not halves:
        return dot(a, w)
    return jax.lax.platform_dependent(
        a,
        w,
        halves,
        cpu=lambda a, w, halves: jnp.concatenate([dot(a, half) for half in halves], axis=-1),
        default=lambda a, w, halves: dot(a, w),
    )


def projected(xs: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """`xs @ w + b`, summed and returned in at least float32."""
    pre = dot(xs, w)
    return pre + rows(b, pre)


def dot_transposed(a: jax.Array, wt: jax.Array) -> jax.Array:
    """`a @ wtᵀ`. Its transpose is `a @ wt`, so the *backward* scan reads the weights in their layout."""
    axis = a.ndim - 1
    return jax.lax.dot_general(a, wt, (((axis,), (1,)), ((), ())), preferred_element_type=accumulator(a.dtype))


def dot_units_first(w: jax.Array, axis: int, a: jax.Array) -> jax.Array:
    """The product of one axis of the weights with the units of `a (units, *batch)`."""
    return jax.lax.dot_general(w, a, (((axis,), (0,)), ((), ())), preferred_element_type=accumulator(a.dtype))


def products(
    like: jax.Array, width: int, *pairs: tuple[jax.Array | None, jax.Array | None], bias: jax.Array | None = None
) -> jax.Array:
    """`Σ a @ w + bias` over all steps, `(time, *batch, width)`, without the terms that are `None`.

    `like` gives the steps, the batch and the dtype.
    """
    terms = [product(a, w, like.dtype) for a, w in pairs if a is not None and w is not None]
    shape = (*like.shape[:-1], width)
    if bias is not None:
        terms.append(jnp.broadcast_to(bias.astype(like.dtype), shape))
    return functools.reduce(jnp.add, terms) if terms else jnp.zeros(shape, like.dtype)


def columns(a: jax.Array | None, start: int, stop: int) -> jax.Array | None:
    """Some of the columns of a weight or a bias, or of its tangent."""
    return None if a is None else a[..., start:stop]


def gates(pre: jax.Array, count: int) -> tuple[jax.Array, ...]:
    """The parts of a row of pre-activations."""
    return tuple(jnp.split(pre, count, axis=-1))


def rows(v: jax.Array, like: jax.Array) -> jax.Array:
    """A vector repeated for every step and batch element of `like`."""
    return jnp.broadcast_to(v.astype(like.dtype), like.shape)


def columns_of(v: jax.Array, like: jax.Array) -> jax.Array:
    """A vector of units repeated for every batch element of `like (units, *batch)`."""
    return jnp.broadcast_to(jax.lax.expand_dims(v.astype(like.dtype), range(1, like.ndim)), like.shape)


def units_first(a: jax.Array, axis: int = 0) -> jax.Array:
    """Moves the last axis to `axis`."""
    return jnp.moveaxis(a, -1, axis)


def units_last(a: jax.Array, axis: int = 0) -> jax.Array:
    """Moves `axis` to the end."""
    return jnp.moveaxis(a, axis, -1)
