"""The LSTM of cuDNN, by `jax.experimental.rnn`: a primitive with derivatives of all orders and both modes, and `vmap`.

cuDNN computes the values and the reverse-mode gradients. It does not support forward mode, second derivatives and
gradients of single members of a `vmap`; `kernels.recurrence` computes those from the same arrays.

Three primitives share their first operands, `lengths (batch,)` and the layer's arrays: `xs (batch, time, features)`,
`h` and `c (batch, hidden)`, `w_x`, `w_h` and `b`, all float32.

- *forward* returns `ys`, `h`, `c`, and the buffer that cuDNN reserves for the backward pass.
- *tangent* maps tangents of the layer's arrays to those of `ys`, `h` and `c`, by `kernels.recurrence`.
- *backward* is the transpose of *tangent*, by cuDNN.
"""

import functools
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.interpreters import ad, batching, mlir

from jaxnn.kernels.lstm import LSTM
from jaxnn.kernels.masks import Masks
from jaxnn.kernels.platform import call_operation, to_front, varying_alike, varying_as
from jaxnn.kernels.recurrence import NotServedError, Run, Weights, recurrence
from jaxnn.kernels.settings import default_precision, settled

Arrays = Sequence[jax.Array]
Function = Callable[..., tuple[jax.Array, ...]]

LAYER, RESULTS = 6, 3
"""Number of arrays of a layer, and of results."""

CELL = LSTM
"""The cell that the library computes."""

ROUNDED = (None, "default", "fastest", "bfloat16", "high", "bfloat16_3x", "tensorfloat32", "TF32_TF32_F32")
"""Values of `jax.default_matmul_precision` that allow TF32; with all others products are in float32."""


class _Weights(NamedTuple):
    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array


def run(
    xs: jax.Array, state: tuple[jax.Array, ...], weights: Weights, lengths: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Runs `CELL` over sequences, in programs for NVIDIA GPUs.

    Args:
        xs: `(batch, time, features)`, float32.
        state: The initial `h` and `c`, `(batch, hidden)` each.
        weights: Those of `CELL`.
        lengths: Integers `(batch,)`, int32, each at least 1 and at most `time`.

    Returns:
        The outputs `(batch, time, hidden)`, zero past a length, and `h` and `c` after each sequence's last step.

    Raises:
        NotServedError: If the program is lowered for another platform.
    """
    arrays: Arrays = varying_alike((lengths, xs, *state, weights.w_x, weights.w_h, weights.b))
    ys, h, c, _ = forward_p.bind(*arrays, precision=default_precision())
    return ys, (h, c)


# By cuDNN, which has two biases for each gate; the second one is zero.


def _of_cudnn(lengths: jax.Array, arrays: Arrays, precision: str | None) -> tuple[Any, tuple[Any, ...]]:
    """The arrays and static arguments of `jax.experimental.rnn`."""
    xs, h, c, w_x, w_h, b = arrays
    weights = jnp.concatenate([w_x.T.ravel(), w_h.T.ravel(), b, jnp.zeros_like(b)])
    allowed = jax.lax.Precision.HIGH if precision in ROUNDED else jax.lax.Precision.HIGHEST
    return (xs, h[None], c[None], weights, lengths), (xs.shape[-1], h.shape[-1], 1, 0.0, False, allowed)


def _run_forward(lengths: jax.Array, *arrays: jax.Array, precision: str | None) -> tuple[jax.Array, ...]:
    from jax.experimental import rnn  # so that the library does not depend on an experimental module

    arguments, static = _of_cudnn(lengths, arrays, precision)
    (ys, h, c), residuals = rnn.lstm_fwd(*arguments, *static)
    return ys, h[0], c[0], residuals[-1]


def _run_backward(
    lengths: jax.Array, ys: jax.Array, reserved: jax.Array, *arrays: jax.Array, precision: str | None
) -> tuple[jax.Array, ...]:
    from jax.experimental import rnn

    arguments, static = _of_cudnn(lengths, arrays[:LAYER], precision)
    d_ys, d_h, d_c = arrays[LAYER:]
    residuals, cotangents = (*arguments, ys, reserved), (d_ys, d_h[None], d_c[None])
    backward: Callable[..., Any] = rnn.lstm_bwd
    d_xs, d_h, d_c, d_weights, _ = backward(*static, residuals, cotangents)
    w_x, w_h, b = arrays[RESULTS:LAYER]
    of_x, of_h, of_b, _ = jnp.split(d_weights, [w_x.size, w_x.size + w_h.size, w_x.size + w_h.size + b.size])
    return d_xs, d_h[0], d_c[0], of_x.reshape(w_x.T.shape).T, of_h.reshape(w_h.T.shape).T, of_b


@functools.cache
def reserved_size(shape: tuple[int, ...], hidden: int, precision: str | None) -> int:
    """Number of elements that cuDNN reserves for the backward pass."""
    batch, _, features = shape
    shapes = shape, (batch, hidden), (batch, hidden), (features, 4 * hidden), (hidden, 4 * hidden), (4 * hidden,)
    arrays = [jax.ShapeDtypeStruct(one, jnp.float32) for one in shapes]
    lengths = jax.ShapeDtypeStruct((batch,), jnp.int32)
    size: int = jax.eval_shape(functools.partial(_run_forward, precision=precision), lengths, *arrays)[-1].size
    return size


# By `kernels.recurrence`.


def values(lengths: jax.Array, *arrays: jax.Array, precision: str | None) -> tuple[jax.Array, ...]:
    """Computes what cuDNN does, from the same arrays."""
    xs, h, c, *weights = arrays
    with settled(arrays, precision or default_precision()):
        inside = jnp.arange(xs.shape[1], dtype=jnp.int32)[:, None] < lengths[None]
        run = Run(_Weights(*weights), (h, c), None, jnp.moveaxis(xs, 1, 0), Masks(inside))
        ys, (h, c) = recurrence(CELL, False, run)
        return jnp.moveaxis(ys, 0, 1), h, c


def _pushed(lengths: jax.Array, *arrays: jax.Array, precision: str | None) -> tuple[jax.Array, ...]:
    run = functools.partial(values, lengths, precision=precision)
    return tuple(jax.jvp(run, arrays[:LAYER], arrays[LAYER:])[1])


def _pulled(lengths: jax.Array, *arrays: jax.Array, precision: str | None) -> tuple[jax.Array, ...]:
    run = functools.partial(values, lengths, precision=precision)
    return tuple(jax.vjp(run, *arrays[:LAYER])[1](arrays[LAYER:]))


# The primitives.


def _primitive(name: str, describe: Function, run: Function, *, by_cudnn: bool) -> Primitive:
    """Makes a primitive that `run` computes, on all platforms or by one call of cuDNN."""
    primitive = Primitive(name)
    primitive.multiple_results = True

    def compute(*operands: jax.Array, **params: Any) -> list[jax.Array]:
        return call_operation(name, jax.jit(functools.partial(primitive.bind, **params)), *operands)

    def shapes(*operands: Any, **params: Any) -> Any:
        return jax.make_jaxpr(functools.partial(describe, **params))(*operands).out_avals

    primitive.def_impl(compute)
    primitive.def_abstract_eval(shapes)
    lowering = mlir.lower_fun(run, multiple_results=True)
    if by_cudnn:
        mlir.register_lowering(primitive, _in_rows(lowering), platform="cuda")
    mlir.register_lowering(primitive, _refuse if by_cudnn else lowering)
    return primitive


def _in_rows(lowering: Callable[..., Any]) -> Callable[..., Any]:
    """Sets row-major layouts for the operands and results of cuDNN's call, as cuDNN reads and writes them.

    `jax.experimental.rnn` leaves the layouts to XLA, which chooses others to save transposes:
    https://github.com/jax-ml/jax/issues/19177.
    """

    def rows(value: Any) -> Any:
        minor_to_major = array("q", reversed(range(ir.RankedTensorType(value.type).rank)))
        return ir.DenseIntElementsAttr.get(minor_to_major, type=ir.IndexType.get())

    def rule(ctx: Any, *operands: Any, **params: Any) -> Any:
        results = lowering(ctx, *operands, **params)
        call = results[0].owner
        if call.name != "stablehlo.custom_call":
            raise NotServedError("algorithm='cudnn' has no support in this release of JAX; use 'scan', or 'auto'.")
        call.attributes["operand_layouts"] = ir.ArrayAttr.get([rows(value) for value in call.operands])
        call.attributes["result_layouts"] = ir.ArrayAttr.get([rows(value) for value in call.results])
        return results

    return rule


def _refuse(ctx: Any, *operands: Any, **params: Any) -> Any:
    platforms = ctx.module_context.platforms
    raise NotServedError(
        f"algorithm='cudnn' has no support for the platform of this program, {', '.join(platforms)}; use 'scan', or "
        "'auto', which chooses a supported one."
    )


def _forward_shapes(lengths: jax.Array, *arrays: jax.Array, precision: str | None) -> tuple[jax.Array, ...]:
    size = reserved_size(arrays[0].shape, arrays[1].shape[-1], precision)
    return *values(lengths, *arrays, precision=precision), varying_as(lengths, jnp.zeros(size, jnp.float32))


def _without_residuals(function: Function) -> Function:
    def run(lengths: jax.Array, ys: jax.Array, reserved: jax.Array, *arrays: jax.Array, **params: Any) -> Any:
        return function(lengths, *arrays, **params)

    return run


forward_p = _primitive("cudnn_lstm", _forward_shapes, _run_forward, by_cudnn=True)
_tangent = _primitive("cudnn_lstm_tangent", *[_without_residuals(_pushed)] * 2, by_cudnn=False)
_backward = _primitive("cudnn_lstm_backward", _without_residuals(_pulled), _run_backward, by_cudnn=True)


def _filled(tangents: Sequence[Any]) -> Arrays:
    return [ad.instantiate_zeros(tangent) for tangent in tangents]


def _forward_jvp(primals: Arrays, tangents: Sequence[Any], *, precision: str | None) -> tuple[Any, Any]:
    lengths, *arrays = primals
    *results, reserved = forward_p.bind(*primals, precision=precision)
    pushed = _tangent.bind(lengths, results[0], reserved, *arrays, *_filled(tangents[1:]), precision=precision)
    return [*results, reserved], [*pushed, ad.Zero(jax.typeof(reserved).to_tangent_aval())]


def _transposed(cotangents: Sequence[Any], *operands: Any, precision: str | None) -> list[Any]:
    known = operands[:-LAYER]
    return [None] * len(known) + _backward.bind(*known, *_filled(cotangents), precision=precision)


def _forward_batched(operands: Arrays, axes: Sequence[int | None], *, precision: str | None) -> tuple[Any, Any]:
    """If the members share the weights, they become more sequences."""
    if any(axis is not None for axis in axes[-3:]):
        results = jax.vmap(functools.partial(values, precision=precision), in_axes=tuple(axes))(*operands)
        return [*results, jnp.zeros(0, jnp.float32)], [0] * RESULTS + [None]
    size = next(a.shape[axis] for a, axis in zip(operands, axes, strict=True) if axis is not None)
    split = [to_front(a, axis, size) for a, axis in zip(operands[:-3], axes[:-3], strict=True)]
    merged = [a.reshape(-1, *a.shape[2:]) for a in split]
    *results, reserved = forward_p.bind(*merged, *operands[-3:], precision=precision)
    # `reserved` belongs to all members. Only derivatives of single members, which do not read it, are batched again.
    return [*(a.reshape(size, -1, *a.shape[1:]) for a in results), reserved], [0] * RESULTS + [None]


ad.primitive_jvps[forward_p] = _forward_jvp
ad.primitive_transposes[_tangent] = _transposed
batching.primitive_batchers[forward_p] = _forward_batched


def _by_function(primitive: Primitive, function: Function) -> None:
    """Gives a primitive the derivatives and batching of a function that computes the same."""

    def jvp(primals: Arrays, tangents: Sequence[Any], *, precision: str | None) -> tuple[Any, Any]:
        lengths, _, _, *arrays = primals
        run = functools.partial(function, lengths, precision=precision)
        _, pushed = jax.jvp(run, arrays, _filled(tangents[3:]))
        return primitive.bind(*primals, precision=precision), list(pushed)

    def batched(operands: Arrays, axes: Sequence[int | None], *, precision: str | None) -> tuple[Any, Any]:
        lengths, _, _, *arrays = operands
        run = jax.vmap(functools.partial(function, precision=precision), in_axes=(axes[0], *axes[3:]))
        results = list(run(lengths, *arrays))
        return results, [0] * len(results)

    ad.primitive_jvps[primitive] = jvp
    batching.primitive_batchers[primitive] = batched


_by_function(_tangent, _pushed)
_by_function(_backward, _pulled)
