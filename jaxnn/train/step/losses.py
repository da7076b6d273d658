"""Losses in the log domain and penalties on the weights."""

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn.train.step.batching import Metrics
from jaxnn.train.step.step import LossFn, Penalty


class LabelledImages(Protocol):
    """A batch with `images` `(batch, ...)` and integer `labels`, such as `jaxnn.data.Examples`."""

    @property
    def images(self) -> jax.Array:
        """Whatever the model takes, `(batch, ...)`."""

    @property
    def labels(self) -> jax.Array:
        """Class numbers from 0, `(batch,)`, or `(batch, *positions)`."""


def classification_loss(label_smoothing: float = 0.0, *, ignore_label: int | None = None) -> LossFn:
    r"""Makes the cross-entropy of a model's logits, with accuracy for a metric.

    \[ \ell = -\sum_k q_k \log \mathrm{softmax}(z)_k = \log \sum_k e^{z_k} - \sum_k q_k z_k, \qquad
    q_k = (1 - \varepsilon) [k = y] + \varepsilon / K \]

    computed in the log domain and in float32 at least, so that large logits lose nothing.

    A label that is no class (negative, or not below the number of logits) gives NaN. `fit`, `fit_ensemble` and
    `evaluate` look at the labels first, and raise a `ValueError` that names the value and its position.

    Args:
        label_smoothing: \(\varepsilon\), from 0 (the labels as they are) to below 1. Evaluation uses it too,
            so that losses of training and test compare.
        ignore_label: Where a label has this value, the position is left out of loss, metrics and means: padding,
            pixels that nobody labelled. It may be any integer, -100 or 255 for instance, or a class. A batch of which
            nothing counts has loss 0 and gradient 0.

    Returns:
        `(model, batch, key) -> (losses, {"accuracy": ...})`, all `(batch,)`. `model(batch.images)` must
        return logits `(batch, *positions, classes)`; `batch.labels` are integers `(batch, *positions)`, often
        `(batch,)`. With positions, losses and accuracies are means over those of an example that count; with
        `ignore_label` the metric `examples` is their share, so that the mean over a batch or a set is
        the mean over positions.

    Raises:
        ValueError: If `label_smoothing` is outside [0, 1) or `ignore_label` is no integer, or, while tracing, if
            shapes or dtypes do not fit.

    References:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016 (label
        smoothing).

    Example:
        >>> import collections, jax.numpy as jnp
        >>> from jaxnn import train
        >>> Batch = collections.namedtuple("Batch", "images labels")
        >>> batch = Batch(jnp.array([[0.0, 1000.0], [0.0, 0.0]]), jnp.array([1, 1]))
        >>> losses, metrics = train.classification_loss()(lambda logits: logits, batch, None)
        >>> print(losses, metrics["accuracy"])
        [0.        0.6931472] [ True False]
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing: expected a number from 0 to below 1, got {label_smoothing}")
    if ignore_label is not None and (isinstance(ignore_label, bool) or not isinstance(ignore_label, int | np.integer)):
        raise ValueError(f"ignore_label: expected an integer or None, got {ignore_label!r}")
    return Classification(float(label_smoothing), None if ignore_label is None else int(ignore_label))


@dataclasses.dataclass(frozen=True)
class Classification:
    """What `classification_loss` makes; two of the same numbers are equal, so `evaluate` compiles once for both."""

    label_smoothing: float
    ignore_label: int | None

    def __call__(self, model: Any, batch: LabelledImages, key: jax.Array | None) -> tuple[jax.Array, Metrics]:
        """Losses and metrics of a batch."""
        logits, labels = model(batch.images), batch.labels
        _check(logits, labels)
        classes = logits.shape[-1]
        ignored, is_class = _sorted_out(labels, classes, self.ignore_label)
        logits = logits if logits.dtype == jnp.float64 else logits.astype(jnp.float32)
        if ignored is not None:
            # NaN there must not reach the gradient either.
            logits = jnp.where(ignored[..., None], jnp.zeros_like(logits), logits)
        # An index that exists: optax takes -1 for the last class. What is no class becomes NaN below.
        safe = jnp.where(is_class, labels, jnp.zeros_like(labels)).astype(jnp.int32)
        if self.label_smoothing:
            one_hot = jax.nn.one_hot(safe, classes, dtype=logits.dtype)
            losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, self.label_smoothing))
        else:
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, safe)
        losses = jnp.where(is_class, losses, jnp.full_like(losses, jnp.nan))
        right = is_class & (jnp.argmax(logits, -1) == safe)
        if ignored is None:
            counted, share = jnp.ones(labels.shape, losses.dtype), None
        else:
            counted = 1 - ignored.astype(losses.dtype)
            share = _mean(counted, jnp.ones_like(counted))
            losses = jnp.where(ignored, jnp.zeros_like(losses), losses)
        metrics = {"accuracy": _mean(right, counted)}
        return _mean(losses, counted), metrics if share is None else metrics | {"examples": share}


def _check(logits: Any, labels: Any) -> None:
    if jnp.ndim(logits) < 2 or jnp.shape(labels) != jnp.shape(logits)[:-1]:
        one_hot = jnp.shape(labels) == jnp.shape(logits)
        raise ValueError(
            "model: expected logits (batch, classes) for labels (batch,), or both with positions after the batch, got "
            f"{jnp.shape(logits)} for {jnp.shape(labels)}"
            + ("; make class numbers of one-hot labels: jnp.argmax(labels, -1)" if one_hot else "")
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels: expected integer class numbers, got {labels.dtype}; convert them: labels.astype(jnp.int32)"
        )


def _sorted_out(labels: jax.Array, classes: int, ignore_label: int | None) -> tuple[jax.Array | None, jax.Array]:
    """Which labels are left out, None where none is, and which of them are classes."""
    limits = jnp.iinfo(labels.dtype)

    def at_most(number: int) -> jax.Array:  # in the labels' own dtype: none is wrapped into another before
        return labels <= jnp.asarray(min(number, limits.max), labels.dtype)

    is_class = at_most(classes - 1) & (labels >= jnp.zeros((), labels.dtype))
    if ignore_label is None:
        return None, is_class
    if not limits.min <= ignore_label <= limits.max:
        return jnp.zeros(labels.shape, bool), is_class
    return labels == jnp.asarray(ignore_label, labels.dtype), is_class


def _mean(values: jax.Array, counted: jax.Array) -> jax.Array:
    """Means over the positions of each example that count, `(batch, *positions) -> (batch,)`; 0 where none does."""
    if values.ndim == 1:
        return values
    positions = tuple(range(1, values.ndim))
    return jnp.sum(values.astype(counted.dtype) * counted, positions) / jnp.maximum(jnp.sum(counted, positions), 1)


def weight_mask(params: Any) -> Any:
    """Tells weights from the rest: True for arrays of two axes or more.

    Kernels and matrices have them; biases, scales and offsets of normalisation, and scalars, which are
    commonly left out of regularisation, do not. For `optax.adamw(..., mask=train.step.weight_mask)`.

    Args:
        params: Any pytree of arrays.

    Returns:
        A pytree of bools of the same structure.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> train.step.weight_mask({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)})
        {'bias': False, 'kernel': True}
    """
    return jax.tree.map(lambda x: jnp.ndim(x) >= 2, params)


def l2(scale: float) -> Penalty:
    r"""Makes the L2 penalty of the weights, biases left out (`weight_mask`), for `make_step`.

    \[ R(\theta) = \lambda \sum_{w \in \text{weights}} \lVert w \rVert_2^2 \]

    Without the factor 1/2 that some texts have: its gradient is \(2 \lambda w\). With plain gradient descent
    that is weight decay; with Adam it is not, and `optax.adamw` is what decays weights there.

    Args:
        scale: \(\lambda\), not negative.

    Returns:
        `(params) -> ()`, float32 at least.

    Raises:
        ValueError: If `scale` is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> float(train.l2(0.5)({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}))
        3.0
    """
    if not 0 <= scale < math.inf:
        raise ValueError(f"scale: expected a finite number that is not negative, got {scale}")

    def penalty(params: Any) -> jax.Array:
        weights = [
            w
            for w, is_weight in zip(jax.tree.leaves(params), jax.tree.leaves(weight_mask(params)), strict=True)
            if is_weight
        ]
        squares = [jnp.sum(jnp.square(jnp.abs(w).astype(jnp.float32))) for w in weights]
        return scale * sum(squares, start=jnp.float32(0))

    return penalty
