"""A primitive whose formulation is chosen by platform when a program is lowered."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.interpreters.partial_eval import dce_jaxpr
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxnn.kernels.accumulate import broadcast
from jaxnn.kernels.geometry import known
from jaxnn.kernels.settings import is_plain, settled

T = TypeVar("T")

Formulation = Callable[..., jax.Array]

_FORMULATIONS: dict[Primitive, Formulation] = {}


def by_platform(
    name: str,
    default: Formulation,
    cpu: Formulation,
    sharded: Formulation | None = None,
    default_on_cpu: Formulation | None = None,
    sharded_elsewhere: Formulation | None = None,
) -> Primitive:
    """Makes a primitive that `default` computes, and on CPU `cpu`, which is the same function.

    Args:
        name: Name of the primitive in jaxprs.
        default: `(*arrays, **params) -> array` in terms of `jax.lax`; it also determines shape, dtype and sharding.
        cpu: The same function, formulated for XLA:CPU.
        sharded: Used instead of `cpu` in a program that XLA shards over several devices. It must not loop over axes
            that may be sharded, or every device would gather the whole array.
        default_on_cpu: Used instead of `default` on CPU if none of these applies: over explicit axes of a mesh, and for
            sizes that are zero or unknown.
        sharded_elsewhere: Used instead of `default` on other platforms in a program that XLA shards over devices.

    Returns:
        The primitive, without rules for differentiation or batching. The keyword parameters of `bind` are hashable.
    """
    primitive = Primitive(name)

    @functools.cache
    def compiled(**params: Any) -> Callable[..., jax.Array]:
        return jax.jit(functools.partial(primitive.bind, **params))

    def run(*arrays: jax.Array, **params: Any) -> jax.Array:
        return call_operation(name, compiled(**params), *arrays)

    def describe(*avals: Any, **params: Any) -> Any:
        with settled(avals):
            return jax.make_jaxpr(functools.partial(default, **params))(*avals).out_avals[0]

    _FORMULATIONS[primitive] = _without_dead_code(default)
    plain = _lowering(_FORMULATIONS[primitive])
    plain_on_cpu = _lowering(default_on_cpu) if default_on_cpu else plain
    alone = _lowering(cpu)
    among = _lowering(sharded or cpu)
    elsewhere = _lowering(sharded_elsewhere or default)

    def on_cpu(ctx: Any, *operands: Any, **params: Any) -> Any:
        # Formulations for CPU divide by sizes and compare them, so sizes must be known and not zero.
        ordinary = all(known(size) and size > 0 for aval in ctx.avals_in for size in aval.shape)
        # A reshape of an explicitly sharded array needs the sharding of its result; `jax.lax` knows it.
        sharded = any(axis is not None for aval in ctx.avals_in for axis in aval.sharding.spec)
        if sharded or not ordinary:
            return plain_on_cpu(ctx, *operands, **params)
        return (among if devices(ctx) > 1 else alone)(ctx, *operands, **params)

    def on_others(ctx: Any, *operands: Any, **params: Any) -> Any:
        return (elsewhere if devices(ctx) > 1 else plain)(ctx, *operands, **params)

    def devices(ctx: Any) -> int:
        # Inside `shard_map` the context has no number of devices: there each device sees one part.
        return getattr(ctx.module_context.axis_context, "num_devices", 1)

    primitive.def_impl(run)
    primitive.def_abstract_eval(describe)
    mlir.register_lowering(primitive, on_others)
    mlir.register_lowering(primitive, on_cpu, platform="cpu")
    return primitive


def call_operation(name: str, compiled: Callable[..., T], *arrays: jax.Array) -> T:
    """Calls a jitted function as one of JAX's operations, which `jax.disable_jit` does not divide, nor a NaN.

    Where `jax.debug_nans` finds a NaN in the results of a jitted function, JAX calls what was jitted again, uncompiled.
    Here that would be the operation itself, without end.
    """
    wrong: dict[str, Callable[[jax.Array], jax.Array]] = {}
    if jax.config.jax_debug_nans:  # type: ignore[attr-defined]
        wrong["nan"] = jnp.isnan
    if jax.config.jax_debug_infs:  # type: ignore[attr-defined]
        wrong["inf"] = jnp.isinf
    with jax.disable_jit(False), jax.debug_nans(False), jax.debug_infs(False):
        out = compiled(*arrays)
        for kind, found in wrong.items():
            if any(found(array).any() for array in jax.tree.leaves(out)):
                raise FloatingPointError(
                    f"{name}: invalid value ({kind}) encountered in {name}; look at what it was given."
                )
    return out


def _lowering(function: Formulation) -> Callable[..., Any]:
    def run(*arrays: jax.Array, **params: Any) -> jax.Array:
        with settled(arrays):
            return function(*arrays, **params)

    return mlir.lower_fun(run, multiple_results=False)


def formulation(primitive: Primitive) -> Formulation | None:
    """Returns the function of a primitive, `(*arrays, **params) -> array` in terms of `jax.lax`; None if unknown."""
    return _FORMULATIONS.get(primitive)


def _without_dead_code(function: Formulation) -> Formulation:
    """Removes unused results: a derivative of `jax.lax` also computes its primal."""

    def live(*arrays: jax.Array, **params: Any) -> jax.Array:
        traced = jax.make_jaxpr(functools.partial(function, **params))(*arrays)
        jaxpr, _ = dce_jaxpr(traced.jaxpr, [True], instantiate=True)
        return jaxpr_as_fun(ClosedJaxpr(jaxpr, traced.consts))(*arrays)[0]

    return live


def bind(primitive: Primitive, *arrays: jax.Array, **params: Any) -> jax.Array:
    """Calls `primitive`, also inside `shard_map`, where only some operands may vary over a mesh axis.

    Inside `settings.plain` it traces the operations of `jax.lax` instead.
    """
    arrays = varying_alike(arrays)
    if is_plain():
        return _FORMULATIONS[primitive](*arrays, **params)
    return primitive.bind(*arrays, **params)


def transpose(
    function: Callable[[jax.Array], jax.Array], shape: tuple[int, ...], g: jax.Array, spec: Sequence[Any]
) -> jax.Array:
    """Applies the transpose of a linear function of an array of this shape to `g`.

    `spec` is the sharding of the result over explicit axes of a mesh. Inside `shard_map` the result varies over the
    same mesh axes as `g`; the transpose of `jax.lax` with varying operands would sum it over the devices.
    """
    mesh = explicit_mesh(g)
    if mesh is None:
        return jax.vjp(function, varying_as(g, jnp.zeros(shape, g.dtype)))[1](g)[0]
    # A new array accepts a sharding only if a mesh is set, and the user may not have set one.
    with jax.sharding.use_abstract_mesh(mesh):
        zeros = jnp.zeros(shape, g.dtype, out_sharding=NamedSharding(mesh, PartitionSpec(*spec)))
        return jax.vjp(function, varying_as(g, zeros))[1](g)[0]


def explicit_mesh(array: jax.Array) -> Any:
    """Returns the mesh of an array if it has explicit axes, where shardings are part of types; otherwise None."""
    mesh = jax.typeof(array).sharding.mesh
    return mesh if AxisType.Explicit in mesh.axis_types else None


def inside_auto_axes(function: Callable[..., T], *arrays: jax.Array, spec: Any) -> T:
    """Calls a function that does not support explicit axes of a mesh; `spec` is how they shard each of its results."""
    mesh = explicit_mesh(arrays[0])
    if mesh is None:
        return function(*arrays)
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.sharding.auto_axes(function, out_sharding=PartitionSpec(*spec))(*arrays)


def varying_as(like: jax.Array, array: jax.Array) -> jax.Array:
    """Marks an array, inside `shard_map`, as varying over the mesh axes over which `like` varies."""
    return _over(_varying(like), array)


def varying_alike(tree: T) -> T:
    """Marks the arrays of a tree, inside `shard_map`, as varying over the mesh axes over which any of them varies.

    A loop requires it of its state. Of other arrays it moves the sum of the gradient over the devices out of the loop.
    """
    axes = frozenset().union(*map(_varying, jax.tree.leaves(tree)))
    return jax.tree.map(functools.partial(_over, axes), tree) if axes else tree


def _over(axes: frozenset[str], array: jax.Array) -> jax.Array:
    missing = axes - _varying(array)
    return jax.lax.pcast(array, tuple(missing), to="varying") if missing else array


def _varying(array: jax.Array) -> frozenset[str]:
    """Returns the mesh axes of an enclosing `shard_map` over which the array varies."""
    return jax.typeof(array).mat.varying


def linear_in_first(primitive: Primitive, transpose: Primitive) -> None:
    """Registers that `primitive(a, *rest)` is linear in `a` and piecewise constant in `rest`, and its transpose.

    `transpose` takes the cotangent instead of `a`, and the same `rest` and parameters.
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
    """Registers that the first axis of operands and result is a batch, into which `vmap` merges its axis."""

    def rule(arrays: Sequence[jax.Array], axes: Sequence[Any], **params: Any) -> tuple[jax.Array, int]:
        size = next(array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None)
        arrays = [to_front(array, axis, size) for array, axis in zip(arrays, axes, strict=True)]
        # A batch that is sharded over an explicit axis of a mesh must be the major part of the merged axis.
        last = int(any(jax.typeof(array).sharding.spec[1] is not None for array in arrays))
        joined = [_join_leading(array.swapaxes(0, last)) for array in arrays]
        out = bind(primitive, *joined, **params)
        batch = arrays[0].shape[1]
        return _split_leading(out, *((batch, size) if last else (size, batch))), last

    batching.primitive_batchers[primitive] = rule


def _join_leading(array: jax.Array) -> jax.Array:
    """Maps `(a, b, *rest)` to `(a b, *rest)`, sharded as `a` is."""
    sizes, spec = array.shape, jax.typeof(array).sharding.spec
    return array.reshape(sizes[0] * sizes[1], *sizes[2:], out_sharding=_sharding(array, (spec[0], *spec[2:])))


def _split_leading(array: jax.Array, a: int, b: int) -> jax.Array:
    """Maps `(a b, *rest)` to `(a, b, *rest)`, where `a` is sharded as both are."""
    spec = jax.typeof(array).sharding.spec
    return array.reshape(a, b, *array.shape[1:], out_sharding=_sharding(array, (spec[0], None, *spec[1:])))


def _sharding(array: jax.Array, spec: Sequence[Any]) -> NamedSharding | None:
    """A sharding over the explicit axes of the array's mesh; None where it has none, and shapes alone decide."""
    mesh = explicit_mesh(array)
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(*spec))


def to_front(array: jax.Array, axis: int | None, size: int) -> jax.Array:
    """Moves the vmapped axis of an array to the front; an array without one is repeated `size` times."""
    if axis is None:
        return broadcast(array[None], (size, *array.shape))
    return jnp.moveaxis(array, axis, 0)
