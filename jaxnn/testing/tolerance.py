"""The largest error of a correct result, derived from the dtype and the length of the sums."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

# Higham & Mary's bound holds with probability at least 1 - 2n exp(-λ²/2): at λ = 6 and n = 1000 that is 1 -
# 3e-5, and in practice the errors lie well below it.
_LAMBDA = 6.0


class Tolerance(NamedTuple):
    """The error allowed at one element: `rtol * |expected| + scale * magnitude + floor`.

    Attributes:
        rtol: Part in proportion to the element itself: the rounding of the result.
        scale: Part in proportion to the magnitude of the summed terms, `Σ |a_i| |b_i|`, which can be far larger than
            the sum if terms cancel.
        floor: The smallest normal number of the dtype; accelerators flush smaller ones to zero.
    """

    rtol: float
    scale: float
    floor: float

    def allowed(self, expected: np.ndarray, magnitude: np.ndarray | float) -> np.ndarray:
        """Computes the error allowed at each element.

        Args:
            expected: Exact values.
            magnitude: `Σ |a_i| |b_i|` behind each element.

        Returns:
            The allowed errors, in the shape of `expected`.
        """
        return self.rtol * np.abs(expected) + self.scale * magnitude + self.floor


def tolerance(
    dtype: DTypeLike, reduction: int, *, roundings: int = 2, accumulate: DTypeLike | None = None
) -> Tolerance:
    r"""Returns the tolerance for a sum of `reduction` products computed in `dtype`.

    With the unit roundoff u, a sum of n products computed in any order differs from the exact one by at most

    .. math:: |\hat s - s| \le \min(n, \lambda \sqrt n)\, u \sum_i |a_i| |b_i|

    The factor n always holds (to first order in u). The factor λ√n, here with λ = 6, holds with probability almost one,
    because rounding errors behave as if they were independent and partly cancel. A tolerance that grows as n would hide
    real mistakes in long sums, and a fixed one would raise false alarms. Sums in float16 and bfloat16 are assumed to
    accumulate in float32, so that only the last roundings are those of the narrow dtype.

    Args:
        dtype: Floating dtype of the result. Integers and booleans must be exact.
        reduction: Number of products in each sum: for a convolution, window size times input channels per group.
        roundings: How often a value is rounded to `dtype` on its way to the result: 2 for a sum of products and a bias;
            for a recurrence, about the number of steps times the roundings in each. Their sum also grows as min(n,
            λ√n).
        accumulate: Dtype in which sums accumulate. Default: at least float32.

    Returns:
        The parts of the tolerance.

    Raises:
        ValueError: If `reduction` or `roundings` is not positive.

    References:
        Higham and Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41(5), 2019,
        Theorem 3.1.

    Example:
        >>> from jaxnn import testing
        >>> print(f"{testing.tolerance('float32', reduction=576).scale:.1e}")
        8.7e-06
        >>> print(f"{testing.tolerance('bfloat16', reduction=576).scale:.1e}")  # still summed in float32
        3.9e-03
    """
    if reduction < 1 or roundings < 1:
        raise ValueError(f"reduction, roundings: expected numbers of at least 1, got {reduction} and {roundings}")
    if not jnp.issubdtype(dtype, jnp.inexact):
        return Tolerance(0.0, 0.0, 0.0)
    if accumulate is None:
        accumulate = dtype if jnp.finfo(dtype).bits > 32 else jnp.float32
    unit = float(jnp.finfo(dtype).eps) / 2
    # One term more than the products: the bias, or another addend.
    summed = _growth(reduction + 1) * float(jnp.finfo(accumulate).eps) / 2
    rounded = _growth(roundings - 1) * unit
    return Tolerance(rtol=2 * unit, scale=summed + rounded, floor=float(jnp.finfo(dtype).tiny))


def _growth(n: int) -> float:
    return min(n, _LAMBDA * math.sqrt(n))
