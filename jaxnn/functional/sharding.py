"""Explicit sharding: arrays that accompany a sequence are sharded as the sequence is.

Explicit shardings are part of types: a scan requires that the type of its state does not change, and a choice between
arrays requires one type.
"""

import contextlib
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn.kernels.platform import explicit_mesh


def like_batch(x: jax.Array, batch_axes: int, tree: Any, *, time_major: bool) -> Any:
    """Shards arrays `(*batch, ...)` over the batch axes of a sequence, where its mesh has explicit axes.

    Args:
        x: The sequence, `(*batch, time, *features)` or `(time, *batch, *features)`.
        batch_axes: Number of batch axes.
        tree: Arrays whose first axes are the batch axes of `x`.
        time_major: Whether `x` begins with time.

    Returns:
        The arrays; further axes keep their sharding.
    """
    spec = jax.typeof(x).sharding.spec
    return jax.tree.map(
        lambda array: _placed(x, array, spec[1 : batch_axes + 1] if time_major else spec[:batch_axes]), tree
    )


def like_leading(x: jax.Array, tree: Any) -> Any:
    """Shards arrays over the axes of `x (*batch)`, their first ones, where its mesh has explicit axes."""
    return jax.tree.map(lambda array: _placed(x, array, jax.typeof(x).sharding.spec), tree)


def _placed(x: jax.Array, array: jax.Array, leading: Any) -> jax.Array:
    mesh = explicit_mesh(x)
    if mesh is None:
        return array
    spec = PartitionSpec(*leading, *jax.typeof(array).sharding.spec[len(leading) :])
    # Outside of `jax.jit` and `jax.set_mesh` only the array itself knows the devices.
    if not isinstance(x, jax.core.Tracer) and isinstance(x.sharding, NamedSharding):
        return jax.device_put(array, NamedSharding(x.sharding.mesh, spec))
    return jax.sharding.reshard(array, NamedSharding(mesh, spec))


def sharded(tree: Any) -> bool:
    """Whether an array is sharded over an explicit axis of a mesh."""
    return any(axis is not None for a in jax.tree.leaves(tree) for axis in jax.typeof(a).sharding.spec)


def mesh_of(x: jax.Array) -> contextlib.AbstractContextManager[Any]:
    """Sets the mesh of an array while tracing, where it has explicit axes.

    The gradient of a scan sums cotangents of values that every step shares. JAX 0.12 finds their sharding only if a
    mesh is set, and the user may have set none.
    """
    mesh = explicit_mesh(x)
    return contextlib.nullcontext() if mesh is None else jax.sharding.use_abstract_mesh(mesh)
