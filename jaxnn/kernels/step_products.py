"""The product of all steps with one matrix, and the gradient of that matrix, as two bilinear primitives.

    product    (a, w) -> y     y[s] = a[s] w
    product_dw (a, g) -> dw    dw   = Σ_s a[s]ᵀ g[s]

`a` has the shape `(*steps, in)`, where the steps are time and batch, `w (in, out)`, `y` and `g` `(*steps, out)`.

On one device the steps become one axis: of a sum over several axes XLA:CPU copies an operand first, and training an
LSTM takes 1.03 to 1.09 times as long. In a program over several devices they stay apart: if each device has a part of
the batch, the minor of the axes, it has no contiguous part of their product, and XLA would gather the arrays of all
devices on each of them and compute the whole gradient there.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from jaxnn.kernels.accumulate import accumulator
from jaxnn.kernels.platform import bind, by_platform, explicit_mesh, to_front
from jaxnn.kernels.settings import default_precision


def product(a: jax.Array, w: jax.Array, dtype: Any) -> jax.Array:
    """`a @ w`, summed in at least float32."""
    return bind(product_p, a, w, dtype=dtype, precision=default_precision())


def _apart(a: jax.Array, w: jax.Array, *, dtype: Any, precision: Any) -> jax.Array:
    return _dot(a, w, (a.ndim - 1,), (0,), dtype, precision)


def _merged(a: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    return _apart(_one_axis(a), w, **params).reshape(*a.shape[:-1], w.shape[-1])


def _dw_apart(a: jax.Array, g: jax.Array, *, dtype: Any, precision: Any) -> jax.Array:
    steps = tuple(range(a.ndim - 1))
    return _dot(a, g, steps, steps, dtype, precision)


def _dw_merged(a: jax.Array, g: jax.Array, **params: Any) -> jax.Array:
    return _dw_apart(_one_axis(a), _one_axis(g), **params)


def _one_axis(a: jax.Array) -> jax.Array:
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _dot(
    a: jax.Array, b: jax.Array, of_a: tuple[int, ...], of_b: tuple[int, ...], dtype: Any, precision: Any
) -> jax.Array:
    sums = accumulator(dtype)
    contracting = ((of_a, of_b), ((), ()))
    return jax.lax.dot_general(a, b, contracting, precision=precision, preferred_element_type=sums).astype(dtype)


product_p = by_platform("product", _apart, _merged, sharded=_apart)
product_dw_p = by_platform("product_dw", _dw_apart, _dw_merged, sharded=_dw_apart)


def _product_a(ct: Any, a: Any, w: jax.Array, *, dtype: Any, precision: Any) -> jax.Array:
    return bind(product_p, ct, w.T, dtype=a.aval.dtype, precision=precision)


def _product_w(ct: Any, a: jax.Array, w: Any, *, dtype: Any, precision: Any) -> jax.Array:
    return bind(product_dw_p, a, ct, dtype=w.aval.dtype, precision=precision)


def _dw_a(ct: Any, a: Any, g: jax.Array, *, dtype: Any, precision: Any) -> jax.Array:
    return bind(product_p, g, ct.T, dtype=a.aval.dtype, precision=precision)


def _dw_g(ct: Any, a: jax.Array, g: Any, *, dtype: Any, precision: Any) -> jax.Array:
    return bind(product_p, a, ct, dtype=g.aval.dtype, precision=precision)


ad.defbilinear(product_p, _product_a, _product_w)
ad.defbilinear(product_dw_p, _dw_a, _dw_g)


def _batch_rule(primitive: Primitive, merged: Callable[..., jax.Array], apart: Callable[..., jax.Array]) -> None:
    def rule(operands: Sequence[Any], axes: Sequence[Any], **params: Any) -> tuple[jax.Array, int]:
        if primitive is product_p and axes[1] is None:  # a mapped batch is one more axis of the steps, the major one
            size = operands[0].shape[axes[0]]
            return bind(primitive, to_front(operands[0], axes[0], size), operands[1], **params), 0
        function = merged if all(explicit_mesh(operand) is None for operand in operands) else apart
        return jax.vmap(partial(function, **params), axes)(*operands), 0

    batching.primitive_batchers[primitive] = rule


_batch_rule(product_p, _merged, _apart)
_batch_rule(product_dw_p, _dw_merged, _dw_apart)
