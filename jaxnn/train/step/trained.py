"""Which parameters are trained: a tree of parameters split in two, each with None where the other has arrays."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

Wrt = Any
"""A `flax.nnx` filter for a module; for a functional model a mask, or `(params) -> mask`."""


def mask_of_module(model: nnx.Module, params: Any, wrt: Wrt) -> Any:
    """Bools of the structure of `params`, a module's parameters as a pure dictionary: which ones the filter picks."""
    try:
        picked = nnx.to_pure_dict(nnx.state(model, nnx.All(nnx.Param, wrt)))
    except TypeError as error:
        raise ValueError(_expected(wrt)) from error
    paths = {path for path, _ in jax.tree_util.tree_leaves_with_path(picked)}
    return jax.tree_util.tree_map_with_path(lambda path, _: path in paths, params)


def mask_of_tree(params: Any, wrt: Wrt) -> Any:
    """Bools of the structure of `params`, from a mask that may have a bool instead of a subtree."""
    try:
        mask = wrt(params) if isinstance(wrt, Callable) else wrt  # type: ignore[arg-type]
        if not all(isinstance(leaf, bool | np.bool_) for leaf in jax.tree.leaves(mask)):
            raise TypeError
        return jax.tree.map(lambda bit, part: jax.tree.map(lambda _: bool(bit), part), mask, params)
    except (TypeError, ValueError) as error:
        raise ValueError(_expected(wrt)) from error


def split(params: Any, mask: Any) -> tuple[Any, Any]:
    """The parameters where the mask is True, and those where it is False."""
    return (
        jax.tree.map(lambda bit, leaf: leaf if bit else None, mask, params),
        jax.tree.map(lambda bit, leaf: None if bit else leaf, mask, params),
    )


def join(first: Any, second: Any) -> Any:
    """The inverse of `split`.

    Example:
        >>> from jaxnn.train.step.trained import join, split
        >>> parts = split({"a": 1, "b": 2}, {"a": True, "b": False})
        >>> parts, join(*parts)
        (({'a': 1, 'b': None}, {'a': None, 'b': 2}), {'a': 1, 'b': 2})
    """
    return jax.tree.map(lambda a, b: b if a is None else a, first, second, is_leaf=lambda x: x is None)


def _expected(wrt: Wrt) -> str:
    return (
        "wrt: expected a flax.nnx filter for a module, for example nnx.PathContains('head'), or for a functional "
        f"model a tree of bools of the structure of its parameters, or a function from them to it, got {wrt!r}"
    )
