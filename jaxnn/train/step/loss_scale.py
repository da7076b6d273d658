"""A loss scale, which keeps small gradients from becoming zero in float16."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from jaxnn.counts import check_count
from jaxnn.kernels.accumulate import widened

# Limits of a scale: 1 scales nothing, and far above 2^24 float32 itself would overflow.
_LOWEST, _HIGHEST = 1.0, 2.0**24


@struct.dataclass
class LossScale:
    r"""A factor that multiplies the loss before its gradient is taken, and divides the gradient afterwards.

    .. math:: \nabla_\theta L = \frac{1}{s} \nabla_\theta (s L)

    float16 has no numbers between 0 and 6e-8, so smaller gradients become zero on the way back through the layers. The
    scale raises them into the range of float16; both products are in float32. `create_state(..., loss_scale=)` puts it
    into the state. A step whose gradient is not finite, because the scale is too high, is skipped: parameters,
    optimiser and variables do not change. A dynamic scale is then halved, and doubled after `period` finite steps in a
    row.

    Attributes:
        value: :math:`s`, float32 `()`.
        finite: Number of finite steps since the scale last changed, int32 `()`.
        period: Number of finite steps after which the scale is doubled; None for a static scale.

    References:
        Micikevicius et al., Mixed Precision Training, ICLR 2018, https://arxiv.org/abs/1710.03740.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     return (w.astype(jnp.float16) * jnp.float16(1e-4) * batch.astype(jnp.float16)) * jnp.float16(1e-4), {}
        >>> gradients = []
        >>> for scale in (None, train.step.LossScale.dynamic()):
        ...     state = train.create_state(jnp.float32(1), optax.sgd(1.0), jax.random.key(0), loss_scale=scale)
        ...     _, metrics = train.make_step(loss_fn)(state, jnp.ones(1))
        ...     gradients.append(f"{metrics['grad_norm']:.1e}")
        >>> gradients
        ['0.0e+00', '1.0e-08']
    """

    value: ArrayLike
    finite: ArrayLike
    period: int | None = struct.field(pytree_node=False)

    @classmethod
    def dynamic(cls, value: float = 2.0**15, *, period: int = 2000) -> "LossScale":
        """Makes a dynamic scale: halved when it is too high, doubled after `period` finite steps.

        Args:
            value: The first one, from 1 to 2^24.
            period: Finite steps until it is doubled.

        Returns:
            The scale.

        Raises:
            ValueError: If a number is out of range.
        """
        return cls(_checked(value), np.int32(0), check_count("period", period))

    @classmethod
    def static(cls, value: float) -> "LossScale":
        """Makes a static scale. If a gradient is not finite, the step is skipped and `fit` stops.

        Args:
            value: The scale, from 1 to 2^24.

        Returns:
            The scale.

        Raises:
            ValueError: If it is out of range.
        """
        return cls(_checked(value), np.int32(0), None)

    def after(self, finite: jax.Array) -> "LossScale":
        """The scale after a step whose gradient was finite, or not."""
        if self.period is None:
            return self
        count = jnp.where(finite, jnp.asarray(self.finite) + 1, 0)
        doubled = count >= self.period
        raised = jnp.where(doubled, jnp.minimum(self.value * jnp.float32(2), _HIGHEST), self.value)
        lowered = jnp.maximum(self.value * jnp.float32(0.5), _LOWEST)
        return dataclasses.replace(self, value=jnp.where(finite, raised, lowered), finite=jnp.where(doubled, 0, count))

    @property
    def can_fall(self) -> jax.Array:
        """Whether a lower scale is left to try."""
        return jnp.asarray(self.value) > _LOWEST if self.period is not None else jnp.zeros(jnp.shape(self.value), bool)


def _checked(value: float) -> np.float32:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _LOWEST <= value <= _HIGHEST:
        raise ValueError(f"loss_scale: expected a number from 1 to 2^24, got {value!r}")
    return np.float32(value)


Objective = Callable[[Any], tuple[jax.Array, Any]]
"""`(params) -> (loss (), auxiliary)`."""


def value_and_grad(objective: Objective, scale: LossScale | None) -> Callable[[Any], tuple[tuple[jax.Array, Any], Any]]:
    """`jax.value_and_grad(objective, has_aux=True)`, with the gradient taken of the scaled loss and divided afterwards.

    With a scale, gradients are float32 at least.
    """
    if scale is None:
        return jax.value_and_grad(objective, has_aux=True)
    value = jnp.asarray(scale.value)

    def scaled(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        loss, auxiliary = objective(params)
        return loss * value.astype(loss.dtype), (loss, auxiliary)

    def function(params: Any) -> tuple[tuple[jax.Array, Any], Any]:
        (_, returned), gradients = jax.value_and_grad(scaled, has_aux=True)(params)
        # Widened first: what float16 could not hold would be lost again in the division.
        return returned, jax.tree.map(lambda g: widened(g) / value.astype(widened(g).dtype), gradients)

    return function


def skip_overflow(
    before: Any, after: Any, metrics: dict[str, jax.Array], finite: jax.Array
) -> tuple[Any, dict[str, jax.Array]]:
    """Keeps the state `before` a step whose gradient is not `finite`, and adjusts the loss scale, if there is one.

    The metrics get `loss_scale` (that of this step) and `skipped` (0 or 1). `grad_norm` becomes 0 for a step that was
    skipped and lowered the scale; where no lower scale is left it keeps its value.
    """
    scale = before.loss_scale
    if scale is None:
        return after, metrics
    norm = metrics["grad_norm"]  # 0 where the optimiser refused the gradient: then its state counts that
    kept = dataclasses.replace(before, step=after.step)
    state = jax.tree.map(lambda new, old: jnp.where(jnp.isfinite(norm), new, old), after, kept)
    metrics = metrics | {
        "grad_norm": jnp.where(~finite & scale.can_fall, jnp.zeros_like(norm), norm),
        "loss_scale": jnp.asarray(scale.value),
        "skipped": (~finite).astype(jnp.float32),
    }
    return dataclasses.replace(state, loss_scale=scale.after(finite)), metrics
