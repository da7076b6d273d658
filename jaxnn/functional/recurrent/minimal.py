"""The shared parts of minGRU and minLSTM: gates depend on the input alone, so that a step is `a * h + b`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform

from jaxnn.functional.arguments import drawn
from jaxnn.functional.bound import Bound, Static
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.cell import Cell, input_products, two_part_cell
from jaxnn.functional.recurrent.init import Initializer, per_gate


def minimal_cell(kind: Any, gates: int, affine: Callable[..., tuple[Any, Any]]) -> Cell:
    """The cell of a layer.

    Args:
        kind: The type of its parameters, `w_x (features, gates * hidden)` and `b (gates * hidden,)`.
        gates: The number of gates, the candidate included.
        affine: `Cell.affine`, a function of the gates' pre-activations.
    """
    return two_part_cell(
        kind.zero_state,
        input_products,
        Bound(_advance, affine=affine),
        output=_output,
        check=Bound(check.gated, kind=Static(kind), gates=gates),
        affine=affine,
        jacobian="diagonal",
    )


def weights(
    key: jax.Array,
    features: int,
    hidden: int,
    gates: int,
    kernel_init: Initializer | None,
    bias_init: Initializer,
    dtype: jax.typing.DTypeLike,
) -> tuple[jax.Array, jax.Array]:
    """Random `w_x` and `b`."""
    check.init(key, features=features, hidden=hidden)
    k_x, k_b = jax.random.split(key)
    kernel_init = kernel_init or per_gate(glorot_uniform(), gates)
    w_x = drawn("kernel_init", kernel_init, k_x, (features, gates * hidden), dtype)
    return w_x, drawn("bias_init", bias_init, k_b, (gates * hidden,), dtype)


def candidate(a: jax.Array, *, log_space: bool) -> jax.Array:
    """The candidate for the state: in log-space the paper's g, which is positive, continuous, and linear from 0 on."""
    return jnp.where(a >= 0, a + 0.5, jax.nn.sigmoid(a)) if log_space else a


def _advance(params: Any, state: Any, g: jax.Array, *, affine: Callable[..., tuple[Any, Any]]) -> Any:
    a, b = affine(params, g)
    return jax.tree.map(lambda a, h, b: a * h + b, a, state, b)


def _output(params: Any, state: Any) -> jax.Array:
    return state.h.astype(params.w_x.dtype)
