"""Losses of regression: the squared error and Huber's loss."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnn.train.losses.fields import Place
from jaxnn.train.losses.supervised import ApplyFn, Supervised, check_kind, floating, without_unit_axis
from jaxnn.train.losses.types import LossFn, Metrics


def regression(
    huber_delta: float | None = None,
    *,
    inputs: Place | None = None,
    targets: Place | None = None,
    apply_fn: ApplyFn | None = None,
) -> LossFn:
    r"""Makes the squared error, or Huber's loss, with the mean absolute error for a metric.

    With the residual :math:`r = z - y`, the mean over all elements of an example's targets of

    .. math::

        \ell = r^2 \qquad \text{or} \qquad
        \ell_\delta = \begin{cases} r^2 / 2 & |r| \le \delta \\ \delta (|r| - \delta / 2) & |r| > \delta \end{cases}

    computed in float32 at least.

    Args:
        huber_delta: :math:`\delta`, positive, for Huber's loss; None is the squared error.
        inputs: Key, attribute or position in the batch of what the model takes, as for `losses.classification`.
        targets: Key, attribute or position of the targets, floats `(batch, ...)`.
        apply_fn: `(model, batch) -> outputs`; `model(inputs)` by default.

    Returns:
        `(model, batch, key) -> (losses, {"mae": ...})`, both `(batch,)`. The outputs have the shape of the targets; a
        last axis of size 1 that the targets lack is dropped.

    Raises:
        ValueError: If `huber_delta` is not positive, or, while tracing, if shapes or dtypes do not fit, or the
            batch does not show where its parts are.

    References:
        Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics, 1964.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> batch = {"x": jnp.array([1.0, 4.0]), "y": jnp.array([1.5, 1.0])}
        >>> train.losses.regression()(lambda x: x, batch, None)[0].tolist()
        [0.25, 9.0]
        >>> losses, metrics = train.losses.regression(huber_delta=1.0)(lambda x: x, batch, None)
        >>> losses.tolist(), metrics["mae"].tolist()
        ([0.125, 2.5], [0.5, 3.0])
    """
    if huber_delta is not None and not 0 < huber_delta < math.inf:
        raise ValueError(f"huber_delta: expected a finite positive number or None, got {huber_delta}")
    delta = None if huber_delta is None else float(huber_delta)
    return Regression(inputs=inputs, targets=targets, apply_fn=apply_fn, huber_delta=delta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(Supervised):
    """The loss that `losses.regression` makes."""

    huber_delta: float | None

    def checked(self, outputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
        """Both in the outputs' dtype, float32 at least."""
        outputs = without_unit_axis(floating(outputs), targets, "outputs")
        check_kind("targets", targets, jnp.floating, "floats", "jnp.float32")
        return outputs, jnp.asarray(targets, outputs.dtype)

    def pointwise(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, Metrics]:
        """Squared or Huber's losses, and absolute errors."""
        residuals = outputs - targets
        if self.huber_delta is None:
            losses = jnp.square(residuals)
        else:
            losses = optax.huber_loss(residuals, delta=self.huber_delta)
        return losses, {"mae": jnp.abs(residuals)}
