"""Helpers of the checks: random trees, parts of trees, sums to differentiate, a quick `jit`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.keys import is_key
from jaxnn.testing.floating import as_array

Tree = Any


def random_like(tree: Tree, seed: int) -> Tree:
    """Draws normal numbers in the shapes and dtypes of a tree, complex for complex leaves, magnitudes for integers."""
    rng = np.random.default_rng(seed)

    def draw(leaf: Any) -> jax.Array:
        values = rng.normal(size=leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            values = values + 1j * rng.normal(size=leaf.shape)
        elif jnp.issubdtype(leaf.dtype, jnp.integer):
            values = np.abs(values)  # counters and indices are never negative
        return as_array(values.astype(leaf.dtype))

    return jax.tree.map(draw, tree)


def total(tree: Tree, weights: Tree | None = None) -> jax.Array:
    """Sums all elements, with weights, to one real number to differentiate; leaves out integers."""
    leaves = jax.tree.leaves(tree)
    factors = [None] * len(leaves) if weights is None else jax.tree.leaves(weights)
    parts = [
        jnp.sum(jnp.real(leaf if w is None else leaf * w).astype(jnp.float32))
        for leaf, w in zip(leaves, factors, strict=True)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return sum(parts, start=jnp.float32(0))


def gradients(function: Callable[..., Any], *, has_aux: bool = False) -> Callable[..., Any]:
    """Returns the gradients by the three arguments, zeros for integers; `(gradients, aux)` with an auxiliary result."""
    gradient = jax.grad(function, argnums=(0, 1, 2), has_aux=has_aux, allow_int=True)

    def numbers(g: Any) -> jax.Array:
        return jnp.zeros(g.shape) if g.dtype == jax.dtypes.float0 else g

    def run(*args: Tree) -> Any:
        if not has_aux:
            return jax.tree.map(numbers, gradient(*args))
        found, aux = gradient(*args)
        return jax.tree.map(numbers, found), aux

    return run


def at(tree: Tree, index: Any) -> Tree:
    """Indexes every array of a tree."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stacked(trees: Sequence[Tree], axis: int = 0) -> Tree:
    """Trees of arrays as one along a new axis; in NumPy, so that nothing compiles, except for random keys."""
    return jax.tree.map(lambda *leaves: (jnp if is_key(leaves[0]) else np).stack(leaves, axis), *trees)


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit` for programs that run once or twice: on CPU it skips LLVM's optimisation, which takes most of the time.

    A program with compiler options cannot be part of another, so a check that differentiates uses the function itself.
    """
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=quick, **options)
