"""The floating leaves of a tree: casts, and functions restricted to them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnn.keys import is_key

Tree = Any
# From one list of floating arrays to another: a function with its other arguments fixed.
FloatingFunction = Callable[[Sequence[jax.typing.ArrayLike]], list[jax.Array]]


def is_floating(leaf: Any) -> bool:
    """Whether a leaf holds real floating-point numbers."""
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.floating))


def cast_floating(tree: Tree, dtype: DTypeLike) -> Tree:
    """Returns the tree as JAX arrays, its floating leaves in `dtype` and the others unchanged."""
    return jax.tree.map(lambda leaf: as_array(np.asarray(leaf).astype(dtype) if is_floating(leaf) else leaf), tree)


def as_arguments(args: Any) -> tuple[Tree, ...]:
    """The arguments of a call as a tuple; raises for a single array, whose rows would become arguments."""
    if not isinstance(args, list | tuple):
        raise ValueError(f"args: expected a tuple of arguments, got {type(args).__name__}; write (x,).")
    return tuple(args)


def as_array(leaf: Any) -> jax.Array:
    """Converts as `jnp.asarray` does, without the program that it compiles for every shape of a NumPy array."""
    return jax.device_put(leaf) if isinstance(leaf, np.ndarray) else jnp.asarray(leaf)


def as_sequences(x: jax.typing.ArrayLike, feature_axes: int | None = None) -> jax.Array:
    """Returns `x` as an array; raises unless it has enough sequences and steps of floats, and the feature axes."""
    values = as_array(x)
    shaped = values.ndim >= 3 if feature_axes is None else values.ndim == feature_axes + 2
    if not shaped or values.shape[0] < 2 or values.shape[1] < 4 or not is_floating(values):
        of = "" if feature_axes is None else f" with {feature_axes + 2} axes for feature_axes={feature_axes}"
        raise ValueError(
            f"x: expected floats (batch, time, *features){of}, at least 2 sequences of at least 4 steps, got "
            f"{values.dtype} {values.shape}"
        )
    return values


def to_float64(tree: Tree) -> Tree:
    """Returns the tree as NumPy arrays, its floating leaves in float64 and the others unchanged."""

    def convert(leaf: Any) -> Any:
        if is_key(leaf):
            return leaf
        return np.asarray(leaf).astype(np.float64) if is_floating(leaf) else np.asarray(leaf)

    return jax.tree.map(convert, tree)


@contextlib.contextmanager
def computing_in(dtype: DTypeLike, precision: str | None = "highest") -> Iterator[None]:
    """Computes in `dtype`: enables x64 if necessary, and products in full precision.

    By default GPUs and TPUs round the factors of a product to fewer bits than float32.
    """
    wide = jnp.finfo(dtype).bits == 64 or bool(jax.config.read("jax_enable_x64"))
    with jax.enable_x64(wide), jax.default_matmul_precision(precision):
        yield


def restrict_to_floating(
    function: Callable[..., Tree], args: tuple[Tree, ...], argnums: Sequence[int] | None = None
) -> tuple[FloatingFunction, list[jax.Array], list[str]]:
    """Restricts a function to one from floating arrays to floating arrays, with all other leaves fixed.

    Returns:
        The function from the floating leaves of the arguments at `argnums` (all by default) to the floating leaves of
        the result; these leaves of `args`; and their paths, for messages.
    """
    flat, structure = jax.tree.flatten_with_path(args)
    chosen = range(len(args)) if argnums is None else argnums
    # The first step of a path is the position of the argument.
    free = [i for i, (path, leaf) in enumerate(flat) if is_floating(leaf) and path[0].idx in chosen]

    def restricted(inputs: Sequence[jax.typing.ArrayLike]) -> list[jax.Array]:
        leaves: list[Any] = [leaf for _, leaf in flat]
        for i, leaf in zip(free, inputs, strict=True):
            leaves[i] = leaf
        result = function(*jax.tree.unflatten(structure, leaves))
        return [leaf for leaf in jax.tree.leaves(result) if is_floating(leaf)]

    return restricted, [flat[i][1] for i in free], [f"args{jax.tree_util.keystr(flat[i][0])}" for i in free]
