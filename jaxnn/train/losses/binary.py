"""The sigmoid cross-entropy: for one binary label, or for several that do not exclude each other."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.train.losses.fields import Place
from jaxnn.train.losses.supervised import ApplyFn, Supervised, floating, without_unit_axis
from jaxnn.train.losses.types import LossFn, Metrics


def binary(
    positive_weight: float = 1.0,
    *,
    inputs: Place | None = None,
    labels: Place | None = None,
    apply_fn: ApplyFn | None = None,
) -> LossFn:
    r"""Makes the sigmoid cross-entropy of a model's logits, with accuracy for a metric.

    The mean over all elements of an example's labels of

    .. math:: \ell = -w \, y \log \sigma(z) - (1 - y) \log \sigma(-z)

    computed in the log domain and in float32 at least. Labels outside 0 to 1 give NaN; `fit`, `ensemble.fit` and
    `evaluate` check them first, as for `losses.classification`.

    Args:
        positive_weight: :math:`w` > 0, the weight of a positive label relative to a negative one, for rare positives.
            The losses are not divided by it.
        inputs: Key, attribute or position in the batch of what the model takes, as for `losses.classification`.
        labels: Key, attribute or position of the labels `(batch, ...)`: bools, integers 0 and 1, or floats from 0 to 1.
        apply_fn: `(model, batch) -> logits`; `model(inputs)` by default.

    Returns:
        `(model, batch, key) -> (losses, {"accuracy": ...})`, both `(batch,)`. The logits have the shape of the labels;
        a last axis of size 1 that the labels lack is dropped. A prediction is correct if the logit is positive and the
        label above 1/2, or neither.

    Raises:
        ValueError: If `positive_weight` is not positive, or, while tracing, if shapes or dtypes do not fit, or the
            batch does not show where its parts are.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> batch = jnp.array([[0.0], [1000.0]]), jnp.array([True, True])
        >>> losses, metrics = train.losses.binary()(lambda logits: logits, batch, None)
        >>> print(losses, metrics["accuracy"])
        [0.6931472 0.       ] [False  True]
    """
    if not 0 < positive_weight < math.inf:
        raise ValueError(f"positive_weight: expected a finite positive number, got {positive_weight}")
    return Binary(inputs=inputs, targets=labels, apply_fn=apply_fn, positive_weight=float(positive_weight))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Binary(Supervised):
    """The loss that `losses.binary` makes."""

    positive_weight: float

    option = "labels"

    def checked(self, outputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
        """Both in the logits' dtype, float32 at least."""
        outputs = without_unit_axis(floating(outputs), targets, "logits")
        if jnp.issubdtype(targets.dtype, jnp.complexfloating):
            raise ValueError(f"labels: expected bools, integers or floats, got {targets.dtype}; convert them.")
        return outputs, jnp.asarray(targets).astype(outputs.dtype)

    def pointwise(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, Metrics]:
        """Cross-entropies, and whether logit and label are on one side."""
        # A label of 0 or 1 has one term: the other is 0 * infinity at an infinite logit.
        zero = jnp.zeros_like(outputs)
        positive = jnp.where(targets == 0, zero, self.positive_weight * targets * jax.nn.log_sigmoid(outputs))
        losses = -positive - jnp.where(targets == 1, zero, (1 - targets) * jax.nn.log_sigmoid(-outputs))
        losses = jnp.where((targets >= 0) & (targets <= 1), losses, jnp.full_like(losses, jnp.nan))
        return losses, {"accuracy": (outputs > 0) == (targets > 0.5)}

    def invalid(self, targets: np.ndarray, outputs: Any) -> tuple[np.ndarray, str, str] | None:
        """Labels outside 0 to 1."""
        bad = ~((targets >= 0) & (targets <= 1))
        return bad, "labels from 0 to 1", "map the negative class to 0 and the positive one to 1"
