"""Settings of JAX, read while a user's program is traced, as the operations of `jax.lax` do.

The primitives of this package are lowered, and their derivatives traced, later, when a `with` around the call has
ended.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import jax
from jax import lax

# Whether Eigen computes the convolutions of the traced program; None: as the environment says.
eigen_context = jax.make_user_context(default_value=None)
_plain_context = jax.make_user_context(default_value=False)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Traces layers as operations of `jax.lax` alone, for tools that support no others, for example `jax2onnx`.

    Otherwise a convolution or a pool is one operation of this library, and a recurrent layer chooses its algorithm when
    the program is lowered. Inside the `with`, convolutions and pools are those of `jax.lax`, recurrent layers are plain
    scans, and derivatives are JAX's own. So the derivative of max pooling differs at padding, infinities and NaN,
    dilated windows have no derivative, and programs for CPU are slower. The algorithm `"newton"` keeps its derivative,
    which JAX cannot derive; its second derivatives in a `jax.lax.scan` are wrong there before JAX 0.12.

    It applies to what this thread traces. `jax.jit` caches programs traced inside and outside separately.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> from jaxnn import kernels
        >>> with kernels.plain():
        ...     traced = jax.make_jaxpr(F.conv)(jnp.ones((8, 8, 3)), jnp.ones((3, 3, 3, 4)))
        >>> [str(equation.primitive) for equation in traced.eqns if "conv" in str(equation.primitive)]
        ['conv_general_dilated']
    """
    with _plain_context(True):
        yield


def is_plain() -> bool:
    """Whether this program is traced as operations of `jax.lax` alone."""
    return bool(_plain_context.value)


def default_precision() -> str | None:
    """Returns the value of `jax.default_matmul_precision` here."""
    name: str | None = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return name


def conv_precision(precision: Any) -> Any:
    """Reads the precision of a convolution, in one hashable form: None, a `jax.lax.Precision` or a pair of them.

    Args:
        precision: As in `jax.lax.conv_general_dilated`. None is the `default_precision`.

    Returns:
        The precision. A `DotAlgorithm` does not apply to convolutions, which get the default precision in `jax.lax`.

    Raises:
        ValueError: If `jax.lax` does not accept it.
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
            "take for example 'highest'."
        ) from None


@contextlib.contextmanager
def settled(arrays: Any, precision: str | None = None) -> Iterator[None]:
    """Restores x64 and the default precision that were set where the arrays were computed.

    Args:
        arrays: A tree of arrays. If one has 64 bits, results may have 64 bits too.
        precision: As in `jax.default_matmul_precision`; `None` is JAX's own default.
    """
    wide = any(leaf.dtype.itemsize == 8 for leaf in jax.tree.leaves(arrays))
    with jax.enable_x64(wide or bool(jax.config.read("jax_enable_x64"))), jax.default_matmul_precision(precision):
        yield


def convolutions_by_eigen() -> bool:
    """Whether XLA:CPU runs the convolutions that are traced here by Eigen, and none by YNNPACK.

    Compiler options are not visible where a program is traced, so code that compiles with options sets
    `eigen_context`. Without it the `XLA_FLAGS` of the environment decide.

    Example:
        >>> from jaxnn.kernels import settings
        >>> with settings.eigen_context(True):
        ...     settings.convolutions_by_eigen()
        True
    """
    given: bool | None = eigen_context.value
    if given is not None:
        return given
    values = re.findall(r"--xla_cpu_experimental_ynn_fusion_type=(\S*)", os.environ.get("XLA_FLAGS", ""))
    return bool(values) and leaves_convolutions(values[-1].strip("\"'"))


def leaves_convolutions(fusions: str) -> bool:
    """Whether a value of `xla_cpu_experimental_ynn_fusion_type` takes convolutions from YNNPACK.

    Args:
        fusions: A list of fusions, or changes (`+dot`, `-dot`) to XLA's list; separated by commas.

    Example:
        >>> from jaxnn.kernels.settings import leaves_convolutions
        >>> leaves_convolutions("-individual_convolution"), leaves_convolutions("-reduce")
        (True, False)
    """
    fusions = fusions.lower()
    if "individual_convolution" in fusions:
        return "-individual_convolution" in fusions
    return not fusions.startswith(("+", "-"))
