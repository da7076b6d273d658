"""Values that any method found, with a given derivative, in loops too.

`jax.custom_jvp` does not suffice. Before JAX 0.12, the derivative of `jax.lax.scan` moves operations that do not change
out of the loop, and while it looks for them it replaces each call of a `jax.custom_jvp` in the loop by the function's
operations, without the rule (`JaxprTrace.process_custom_jvp_call`). If the function returns values found elsewhere,
second derivatives through it are then zero. JAX leaves a primitive as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxnn.kernels.platform import to_front
from jaxnn.kernels.settings import is_plain

Arrays = Sequence[Any]
Tangent = Callable[[Arrays, Arrays, Arrays], Arrays]


def implicit(tangent: Tangent, values: Arrays, arrays: Arrays) -> Arrays:
    """Returns `values`, differentiated by `arrays`, on which they depend in a way that only `tangent` knows.

    Args:
        tangent: `(values, arrays, d_arrays) -> d_values`, linear in `d_arrays`, where zeros are `SymbolicZero`. It is
            called with results of this function, so higher derivatives follow from it.
        values: Arrays; how they were computed is not differentiated.
        arrays: Arrays.

    Returns:
        `values`.
    """
    if is_plain():  # other tools do not know this primitive; before JAX 0.12 the second derivatives in loops are wrong
        return _plain(tangent, values, arrays)
    return implicit_p.bind(*values, *arrays, tangent=tangent, count=len(values))


def _plain(tangent: Tangent, values: Arrays, arrays: Arrays) -> Arrays:
    @jax.custom_jvp
    def same(values: Arrays, arrays: Arrays) -> Arrays:
        return values

    def jvp(primals: Any, tangents: Any) -> tuple[Arrays, Arrays]:
        values = _plain(tangent, *primals)
        return values, tangent(values, primals[1], tangents[1])

    same.defjvp(jvp, symbolic_zeros=True)
    return same(values, arrays)


def _values(*operands: Any, count: int, **_: Any) -> Arrays:
    return list(operands[:count])


def _jvp(primals: Arrays, tangents: Arrays, *, tangent: Tangent, count: int) -> tuple[Arrays, Arrays]:
    # Bound, not just returned, so that second derivatives see how the values depend on the arrays.
    values = implicit_p.bind(*primals, tangent=tangent, count=count)
    d_arrays = [SymbolicZero(d.aval) if type(d) is ad.Zero else d for d in tangents[count:]]
    if all(isinstance(d, SymbolicZero) for d in d_arrays):
        return values, [ad.Zero(jax.typeof(value).to_tangent_aval()) for value in values]
    return values, tangent(values, primals[count:], d_arrays)


def _batched(
    axis_data: Any, operands: Arrays, axes: Sequence[int | None], *, tangent: Tangent, count: int
) -> tuple[Any, Any]:
    if all(axis is None for axis in axes):  # JAX calls this kind of rule for these too
        return implicit_p.bind(*operands, tangent=tangent, count=count), [None] * count
    values = [to_front(a, axis, axis_data.size) for a, axis in zip(operands[:count], axes[:count], strict=True)]
    of_arrays = list(axes[count:])

    def each(values: Arrays, arrays: Arrays, d_arrays: Arrays) -> Arrays:
        moving = [i for i, d in enumerate(d_arrays) if not isinstance(d, SymbolicZero)]

        def one(values: Arrays, arrays: Arrays, moved: Arrays) -> Arrays:
            given = dict(zip(moving, moved, strict=True))
            return tangent(values, arrays, [given.get(i, d) for i, d in enumerate(d_arrays)])

        in_axes = (0, of_arrays, [of_arrays[i] for i in moving])
        # The rule may name the axis, as a step with a collective operation does.
        mapped = jax.vmap(one, in_axes, axis_name=axis_data.name, spmd_axis_name=axis_data.spmd_name)
        return mapped(list(values), list(arrays), [d_arrays[i] for i in moving])

    return implicit_p.bind(*values, *operands[count:], tangent=each, count=count), [0] * count


implicit_p = Primitive("implicit")
implicit_p.multiple_results = True
implicit_p.def_impl(_values)
implicit_p.def_abstract_eval(_values)
mlir.register_lowering(implicit_p, mlir.lower_fun(_values, multiple_results=True))
ad.primitive_jvps[implicit_p] = _jvp
batching.fancy_primitive_batchers[implicit_p] = _batched
