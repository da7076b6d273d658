"""Check that `Cell.jacobian` is the true structure of a cell's Jacobian."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.functional.recurrent.cell import Cell
from jaxnn.functional.recurrent.jacobian import check_structure
from jaxnn.testing.trees import at, compiled, random_like

Tree = Any


def check_jacobian(cell: Cell, params: Tree, state: Tree, x: jax.Array, *, seed: int, given: bool) -> None:
    """Asserts that a cell's `jacobian` is true, at its parameters and near them.

    The derivatives are computed at the state, if it was `given`, or at states drawn like it.
    """
    claim = cell.jacobian
    check_structure("cell.jacobian", claim)
    acting = _acting(claim, at(state, 0))
    derivatives = compiled(partial(_derivatives, cell))
    names = [f"state{jax.tree_util.keystr(path)}.ravel()" for path, _ in jax.tree.leaves_with_path(state)]
    for trial in range(3):
        noise, drawn, inputs = random_like((params, state, x), seed + trial)
        # First at the parameters themselves, then near them, where zeros from an initialiser are no longer zero.
        moved = jax.tree.map(lambda p, n, trial=trial: p + (0.3 * trial * n).astype(p.dtype), params, noise)
        before = at(state if given else drawn, trial % x.shape[0])
        for source, of_source in zip(names, derivatives(moved, before, inputs[0, trial]), strict=True):
            for target, table in zip(names, of_source, strict=True):
                strength = np.nan_to_num(np.asarray(table))
                outside = np.where(acting(source == target, table.shape), 0, strength)
                if outside.max(initial=0) > 1e-6 * strength.max(initial=0):
                    i, j = np.unravel_index(outside.argmax(), outside.shape)
                    raise AssertionError(
                        f"cell.jacobian: {claim!r}, but {source}[{i}] acts on {target}[{j}], with a derivative of "
                        f"{outside[i, j]:.2g}"
                    )


def _acting(claim: Any, state: Tree) -> Callable[[bool, tuple[int, ...]], np.ndarray]:
    """The claim of a cell as `(within one array, shape) -> bool` of that shape: which elements may act on which."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    if claim == "diagonal":
        return lambda same, shape: np.eye(shape[0], shape[1]) * same > 0
    if len(shapes) == claim.size and len(set(shapes)) == 1:
        return lambda same, shape: np.eye(shape[0], shape[1]) > 0
    if len(shapes) == 1 and shapes[0] and shapes[0][-1] % claim.size == 0:
        return lambda same, shape: np.equal.outer(*(np.arange(size) // claim.size for size in shape))
    raise AssertionError(
        f"cell.jacobian: {claim!r} fit {claim.size} arrays of one shape, or one array whose last axis they divide; the "
        f"state has arrays of the shapes {shapes}"
    )


def _derivatives(cell: Cell, params: Tree, state: Tree, x: jax.Array) -> list[list[jax.Array]]:
    """For each array of the state and each of the next, `(elements, elements)`: magnitudes of the derivatives."""
    leaves, structure = jax.tree.flatten(state)

    def pushed(number: int, tangent: jax.Array) -> list[jax.Array]:
        tangents = [tangent if i == number else jnp.zeros_like(leaf) for i, leaf in enumerate(leaves)]
        _, new = jax.jvp(lambda s: cell.step(params, s, x), (state,), (jax.tree.unflatten(structure, tangents),))
        return [jnp.abs(leaf).ravel() for leaf in jax.tree.leaves(new)]

    found = []
    for number, leaf in enumerate(leaves):
        basis = jnp.eye(leaf.size, dtype=leaf.dtype).reshape(leaf.size, *leaf.shape)
        units = [basis, 1j * basis] if jnp.iscomplexobj(leaf) else [basis]  # a step need not be holomorphic
        tables = [jax.vmap(partial(pushed, number))(unit) for unit in units]
        found.append([jnp.max(jnp.stack(same), axis=0) for same in zip(*tables, strict=True)])
    return found
