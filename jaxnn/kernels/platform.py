"""A primitive whose formulation is chosen by platform when a program is lowered."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Formulation = Callable[..., jax.Array]


def by_platform(name: str, default: Formulation, cpu: Formulation) -> Primitive:
    """Makes a primitive that computes `default`, and on CPU the same function as `cpu` does.

    Args:
      name: what jaxprs show.
      default: `(*arrays, **params) -> array` in terms of `jax.lax`; it also tells shape, dtype and sharding.
      cpu: the same function, formulated for XLA:CPU.

    Returns:
      The primitive, without rules for differentiation or batching. The keyword parameters of `bind` are hashable.
    """
    primitive = Primitive(name)

    @functools.cache
    def compiled(**params: Any) -> Callable[..., jax.Array]:
        return jax.jit(functools.partial(primitive.bind, **params))

    def run(*arrays: jax.Array, **params: Any) -> jax.Array:
        return compiled(**params)(*arrays)

    def describe(*avals: Any, **params: Any) -> Any:
        return jax.make_jaxpr(functools.partial(default, **params))(*avals).out_avals[0]

    primitive.def_impl(run)
    primitive.def_abstract_eval(describe)
    mlir.register_lowering(primitive, mlir.lower_fun(default, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform="cpu")
    return primitive


def bind(primitive: Primitive, *arrays: jax.Array, **params: Any) -> jax.Array:
    """Calls `primitive`, inside `shard_map` too, where operands that vary over a mesh axis meet others that do not."""
    axes = [_varying(array) for array in arrays]
    every: frozenset[str] = frozenset().union(*axes)
    if every:
        arrays = tuple(
            jax.lax.pcast(array, tuple(every - own), to="varying") if every - own else array
            for array, own in zip(arrays, axes, strict=True)
        )
    return primitive.bind(*arrays, **params)


def _varying(array: jax.Array) -> frozenset[str]:
    """The mesh axes of an enclosing `shard_map` over which the array differs."""
    aval = jax.typeof(array)
    if hasattr(aval, "vma"):  # its name until jax 0.10.1
        return aval.vma
    return aval.mat.varying


def linear_in_first(primitive: Primitive, transpose: Primitive) -> None:
    """Says that `primitive(a, *rest)` is linear in `a`, piecewise constant in `rest`, and what transposes it.

    `transpose` takes the cotangent in the place of `a`, and the same `rest` and parameters.
    """

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        out = bind(primitive, *primals, **params)
        if type(tangents[0]) is ad.Zero:
            return out, ad.Zero(jax.typeof(out).to_tangent_aval())
        return out, bind(primitive, tangents[0], *primals[1:], **params)

    def transposed(cotangent: Any, _: Any, *rest: Any, **params: Any) -> list[Any]:
        nothing: list[Any] = [None] * len(rest)
        if type(cotangent) is ad.Zero:
            return [None, *nothing]
        return [bind(transpose, cotangent, *rest, **params), *nothing]

    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transposed


def batch_leading(primitive: Primitive) -> None:
    """Says that the first axis of every operand and of the result is a batch: `vmap` makes it longer."""

    def rule(arrays: Sequence[jax.Array], axes: Sequence[Any], **params: Any) -> tuple[jax.Array, int]:
        size = next(array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None)
        merged = [to_front(array, axis, size) for array, axis in zip(arrays, axes, strict=True)]
        batch = merged[0].shape[1]
        out = bind(primitive, *(array.reshape(-1, *array.shape[2:]) for array in merged), **params)
        return out.reshape(size, batch, *out.shape[1:]), 0

    batching.primitive_batchers[primitive] = rule


def to_front(array: jax.Array, axis: int | None, size: int) -> jax.Array:
    """The array with its vmapped axis first; one that has none is repeated `size` times."""
    if axis is None:
        return jax.numpy.broadcast_to(array[None], (size, *array.shape))
    return jax.numpy.moveaxis(array, axis, 0)
