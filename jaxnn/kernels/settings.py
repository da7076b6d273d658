"""JAX's settings, read where a person's program is traced, as operations of `jax.lax` read them.

Our primitives are lowered, and our derivatives traced, later: after a `with` around the call is over.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
from jax import lax


def default_precision() -> str | None:
    """What `jax.default_matmul_precision` says here."""
    name: str | None = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return name


def conv_precision(precision: Any) -> Any:
    """The precision of a convolution, in one hashable form: None, a `jax.lax.Precision` or a pair of them.

    Args:
        precision: What `jax.lax.conv_general_dilated` takes. None is what `default_precision` says.

    Returns:
        The precision. A `DotAlgorithm` says nothing of convolutions, so `jax.lax` gives them the default one.

    Raises:
        ValueError: If it is nothing that `jax.lax` takes.
    """
    precision = default_precision() if precision is None else precision
    if precision is None or isinstance(precision, lax.Precision):
        return precision
    if isinstance(precision, (list, tuple)) and len(precision) == 2:
        return tuple(conv_precision(one) for one in precision)
    preset = isinstance(precision, str) and precision in lax.DotAlgorithmPreset.__members__
    if preset or isinstance(precision, (lax.DotAlgorithm, lax.DotAlgorithmPreset)):
        return lax.Precision.DEFAULT
    try:
        return lax.Precision(precision)
    except ValueError:
        raise ValueError(
            f"precision: expected None, a jax.lax.Precision, its name or a pair of them, got {precision!r}; "
            "take for example 'highest'"
        ) from None


@contextlib.contextmanager
def settled(arrays: Any, precision: str | None = None) -> Iterator[None]:
    """Computes as where the arrays come from: in their dtypes, and in this precision where none is given.

    Args:
        arrays: A tree of arrays. If one has 64 bits, what is computed of them may have 64 bits too.
        precision: As in `jax.default_matmul_precision`; `None` is JAX's own default.
    """
    wide = any(leaf.dtype.itemsize == 8 for leaf in jax.tree.leaves(arrays))
    with jax.enable_x64(wide or bool(jax.config.read("jax_enable_x64"))), jax.default_matmul_precision(precision):
        yield
