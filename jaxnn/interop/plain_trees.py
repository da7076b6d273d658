"""Trees without classes, as a program takes and returns them: it cannot import the classes."""

from collections.abc import Callable
from typing import Any

import jax


def plain(tree: Any, name: str) -> Any:
    """Replaces named tuples by dictionaries of their fields.

    Args:
        tree: Arrays in tuples, lists, dictionaries and named tuples.
        name: The argument, for errors.

    Returns:
        The tree of tuples, lists and dictionaries.

    Raises:
        ValueError: If the tree has containers of another class.

    Example:
        >>> from jaxnn import functional as F
        >>> from jaxnn.interop.plain_trees import plain
        >>> plain((F.LSTMState(h=1, c=2), None), "state")
        ({'h': 1, 'c': 2}, None)
    """
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return {field: plain(getattr(tree, field), name) for field in tree._fields}
    if type(tree) in (tuple, list):
        return type(tree)(plain(part, name) for part in tree)
    if type(tree) is dict:
        return {key: plain(part, name) for key, part in tree.items()}
    if tree is not None and not jax.tree_util.all_leaves([tree]):
        raise ValueError(
            f"{name}: expected arrays in tuples, lists, dictionaries and named tuples, got a {type(tree).__name__}; "
            "a program knows no other classes: take it apart."
        )
    return tree


def reader(example: Any) -> Callable[[Any], Any]:
    """Returns the inverse of `plain` for trees with the structure of the example.

    Example:
        >>> from jaxnn import functional as F
        >>> from jaxnn.interop.plain_trees import reader
        >>> reader(F.LSTMState(h=1, c=2))({"c": 4, "h": 3})
        LSTMState(h=3, c=4)
    """
    leaves, structure = jax.tree.flatten(example)
    # A dictionary has its leaves in the order of its keys, a named tuple in that of its fields.
    places = jax.tree.leaves(plain(jax.tree.unflatten(structure, range(len(leaves))), "example"))

    def read(tree: Any) -> Any:
        found = dict(zip(places, jax.tree.leaves(tree), strict=True))
        return jax.tree.unflatten(structure, [found[place] for place in range(len(leaves))])

    return read
