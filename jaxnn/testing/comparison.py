"""Compares two trees element by element, with a message that names the worst element."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnn import keys
from jaxnn.testing.tolerance import tolerance

Tree = Any
# (expected leaf in float64, its position among the leaves) -> the error allowed at each element
Allowed = Callable[[np.ndarray, int], np.ndarray | float]


def assert_close(
    got: Tree,
    expected: Tree,
    *,
    reduction: int,
    roundings: int = 2,
    magnitude: Tree | None = None,
    accumulate: DTypeLike | None = None,
    what: str = "result",
) -> None:
    """Asserts that two trees agree within the tolerance of `tolerance`.

    Args:
        got: Tree of arrays; the dtype of each leaf decides the tolerance.
        expected: Tree of the same structure and shapes, of at least the same precision.
        reduction: Number of products in each sum.
        roundings: See `tolerance`.
        magnitude: Tree of arrays `Σ |a_i| |b_i|` behind each element. Default: the largest `|expected|` of each
            leaf.
        accumulate: See `tolerance`.
        what: Name of the result for the message.

    Raises:
        AssertionError: If the structure, a shape or a value differs. The message names the worst element by its path in
            the tree and its index, with both values and the error in units of the tolerance. If all elements are off by
            a common factor, it names that too.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import testing
        >>> x = jnp.linspace(0.0, 1.0, 5)
        >>> testing.assert_close({"y": x * 3}, {"y": x + x + x}, reduction=3)
        >>> testing.assert_close({"y": x * 2}, {"y": x}, reduction=1, what="doubling")
        Traceback (most recent call last):
        ...
        AssertionError: doubling: 4 of 5 elements differ by more than the tolerance
          worst at ['y'][4]: got 2, expected 1, error 1 = 3.4e+06 x the tolerance of 3e-07
          every element is 2 times what is expected
    """
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(got)]
    bounds = [tolerance(dtype, reduction, roundings=roundings, accumulate=accumulate) for dtype in dtypes]
    magnitudes = None if magnitude is None else [wide(leaf) for leaf in jax.tree.leaves(magnitude)]

    def allowed(leaf: np.ndarray, position: int) -> np.ndarray:
        scale = largest(leaf) if magnitudes is None else magnitudes[position]
        return bounds[position].allowed(leaf, scale)

    assert_within(got, expected, allowed, what=what)


def assert_same(got: Tree, expected: Tree, reduction: int, roundings: int, what: str) -> None:
    """Asserts that two computed results agree; both round, so the tolerance allows for the roundings of two results."""
    assert_close(got, expected, reduction=4 * reduction, roundings=4 * roundings, what=what)


def assert_within(
    got: Tree, expected: Tree, allowed: Allowed, *, what: str, paths: Sequence[str] | None = None
) -> None:
    """Asserts `|got - expected| <= allowed` at every element; fails with the message of `assert_close`.

    `paths` are the names of the leaves in the message; by default their paths in the tree.
    """
    chex.assert_trees_all_equal_structs(got, expected, custom_message=what)
    leaves = [
        _Leaf(jax.tree_util.keystr(path) if paths is None else paths[i], wide(ours), wide(theirs))
        for i, ((path, ours), theirs) in enumerate(
            zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True)
        )
    ]
    for leaf in leaves:
        if leaf.got.shape != leaf.expected.shape:
            of = f" of {leaf.path}" if leaf.path else ""
            raise AssertionError(f"{what}: shape{of} is {leaf.got.shape}, expected {leaf.expected.shape}")
    for position, leaf in enumerate(leaves):
        leaf.bound = np.broadcast_to(allowed(leaf.expected, position), leaf.got.shape)

    wrong = sum(int((leaf.excess() > 1).sum()) for leaf in leaves)
    if wrong:
        worst = max((leaf for leaf in leaves if leaf.got.size), key=lambda leaf: leaf.excess().max())
        total = sum(leaf.got.size for leaf in leaves)
        lines = [
            f"{what}: {wrong} of {total} elements differ by more than the tolerance",
            worst.describe_worst(),
        ]
        factor = _common_factor(leaves)
        if factor is not None:
            lines.append(f"every element is {factor:.4g} times what is expected")
        raise AssertionError("\n  ".join(lines))


def largest(array: np.ndarray) -> float:
    """Returns the largest finite magnitude, 0 if there is none."""
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0


def wide(leaf: Any) -> np.ndarray:
    """Returns a copy in double precision, real or complex; random keys by their bits."""
    array = np.asarray(keys.data_of(leaf))
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


@dataclasses.dataclass
class _Leaf:
    """One array of the two trees, and the error allowed at each of its elements."""

    path: str
    got: np.ndarray
    expected: np.ndarray
    bound: np.ndarray = dataclasses.field(init=False)

    def excess(self, factor: float = 1.0) -> np.ndarray:
        """Returns the error in units of the bound, relative to `factor` times the expected value.

        Infinite where only one of the two is NaN or infinite.
        """
        due, bound = factor * self.expected, max(abs(factor), 1.0) * self.bound
        same = (self.got == due) | (np.isnan(self.got) & np.isnan(due))
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = np.abs(self.got - due) / bound
        return np.where(same, 0.0, np.where(np.isnan(excess), np.inf, excess))

    def describe_worst(self) -> str:
        excess = self.excess()
        index = np.unravel_index(excess.argmax(), excess.shape)
        got, expected, bound = self.got[index], self.expected[index], self.bound[index]
        place = f"{self.path}[{', '.join(str(i) for i in index)}]" if index else self.path or "the result"
        return (
            f"worst at {place}: got {got:.7g}, expected {expected:.7g}, "
            f"error {abs(got - expected):.2g} = {excess.max():.2g} x the tolerance of {bound:.2g}"
        )


def _common_factor(leaves: list[_Leaf]) -> float | None:
    """Finds a common factor between all elements, if there is one, for example for a gradient scaled by two."""
    if sum(np.count_nonzero(leaf.expected) for leaf in leaves) < 2:
        return None  # a single element always differs by a factor
    with np.errstate(invalid="ignore"):
        overlap = sum(np.vdot(leaf.expected, leaf.got).real for leaf in leaves)
        factor = float(overlap / sum(np.vdot(leaf.expected, leaf.expected).real for leaf in leaves))
    # A factor of zero or NaN explains nothing.
    if not np.isfinite(factor) or abs(factor) < 1e-3:
        return None
    return factor if all(np.all(leaf.excess(factor) <= 4) for leaf in leaves) else None
