"""The quantile loss, for models that predict an interval and not one number."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.train.losses.fields import Place
from jaxnn.train.losses.supervised import ApplyFn, Supervised, check_kind, floating
from jaxnn.train.losses.types import LossFn, Metrics


def quantile(
    quantiles: Sequence[float],
    *,
    inputs: Place | None = None,
    targets: Place | None = None,
    apply_fn: ApplyFn | None = None,
) -> LossFn:
    r"""Makes the quantile loss, also called pinball loss, with the coverage of the widest interval for a metric.

    For the target :math:`y` and the outputs :math:`z_k`, one per quantile :math:`\tau_k`, the mean over :math:`k` of

    .. math:: \rho_\tau(y - z) = \max(\tau (y - z), (\tau - 1) (y - z))

    and over all elements of an example's targets, computed in float32 at least. Its expectation is least where
    :math:`z_k` is the :math:`\tau_k`-quantile of :math:`y`; for :math:`\tau = 0.5` it is half the absolute error.

    Args:
        quantiles: :math:`\tau_k`, between 0 and 1, increasing.
        inputs: Key, attribute or position in the batch of what the model takes, as for `losses.classification`.
        targets: Key, attribute or position of the targets, floats `(batch, ...)`.
        apply_fn: `(model, batch) -> outputs`; `model(inputs)` by default.

    Returns:
        `(model, batch, key) -> (losses, {"coverage": ...})`, both `(batch,)`: the coverage is the fraction of targets
        from the lowest to the highest quantile. The outputs have the shape of the targets and a last axis of quantiles.

    Raises:
        ValueError: If `quantiles` are not increasing numbers between 0 and 1, or, while tracing, if shapes or dtypes do
            not fit, or the batch does not show where its parts are.

    References:
        Koenker and Bassett, Regression Quantiles, Econometrica 46, 1978.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> batch = {"x": jnp.array([[1.0, 2.0], [1.0, 2.0]]), "y": jnp.array([1.5, 4.0])}
        >>> losses, metrics = train.losses.quantile([0.25, 0.75])(lambda x: x, batch, None)
        >>> losses.tolist(), metrics["coverage"].tolist()
        ([0.125, 1.125], [1.0, 0.0])
    """
    if isinstance(quantiles, int | float):
        raise ValueError(f"quantiles: expected a list of numbers, got {quantiles}; write [{quantiles}].")
    levels = tuple(float(each) for each in quantiles)
    if not levels or not all(low < high for low, high in zip((0.0, *levels), (*levels, 1.0), strict=True)):
        raise ValueError(
            f"quantiles: expected increasing numbers between 0 and 1, got {list(quantiles)}; sort them: [0.1, 0.9]."
        )
    return Quantiles(inputs=inputs, targets=targets, apply_fn=apply_fn, quantiles=levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantiles(Supervised):
    """The loss that `losses.quantile` makes."""

    quantiles: tuple[float, ...]

    def checked(self, outputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
        """Both in the outputs' dtype, float32 at least."""
        outputs = floating(outputs)
        shape = (*jnp.shape(targets), len(self.quantiles))
        if len(shape) < 2 or outputs.shape != shape:
            raise ValueError(
                f"model: expected outputs of shape {shape}, that of the targets and one for each quantile, got "
                f"{outputs.shape}; reshape one of them, outputs with apply_fn."
            )
        check_kind("targets", targets, jnp.floating, "floats", "jnp.float32")
        return outputs, jnp.asarray(targets, outputs.dtype)

    def pointwise(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, Metrics]:
        """Means over the quantiles, and whether targets lie between the outer ones."""
        levels = jnp.broadcast_to(jnp.asarray(self.quantiles, outputs.dtype), outputs.shape)
        residuals = targets[..., None] - outputs
        losses = jnp.mean(jnp.maximum(levels * residuals, (levels - 1) * residuals), axis=-1)
        inside = (outputs[..., 0] <= targets) & (targets <= outputs[..., -1])
        return losses, {"coverage": inside.astype(outputs.dtype)}
