"""The cross-entropy of class labels, from logits."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn.counts import whole
from jaxnn.train.losses.fields import Place
from jaxnn.train.losses.supervised import ApplyFn, Supervised, check_kind, floating
from jaxnn.train.losses.types import LossFn, Metrics


def classification(
    label_smoothing: float = 0.0,
    *,
    ignore_label: int | None = None,
    inputs: Place | None = None,
    labels: Place | None = None,
    apply_fn: ApplyFn | None = None,
) -> LossFn:
    r"""Makes the cross-entropy of a model's logits, with accuracy for a metric.

    .. math::

        \ell = -\sum_k q_k \log \mathrm{softmax}(z)_k = \log \sum_k e^{z_k} - \sum_k q_k z_k, \qquad
        q_k = (1 - \varepsilon) [k = y] + \varepsilon / K

    computed in the log domain and in float32 at least, so that large logits lose nothing.

    A batch is a pair `(inputs, labels)`, or a dictionary, NamedTuple, dataclass or other object that holds the inputs
    as `inputs`, `input`, `images`, `image` or `x`, and the labels as `targets`, `target`, `labels`, `label` or `y`. For
    other names, and for larger tuples, pass `inputs` and `labels`.

    A label that is not a class (negative, or not below the number of logits) gives NaN. `fit`, `ensemble.fit` and
    `evaluate` check the labels first, and raise a `ValueError` that names the value and its position.

    Args:
        label_smoothing: :math:`\varepsilon`, in [0, 1); 0 uses the labels as they are. Evaluation uses it too, so that
            training and test losses are comparable.
        ignore_label: A label, any integer, for example -100 or 255. Positions with this label (padding, unlabelled
            pixels) are left out of loss, metrics and means. A batch without other positions has loss 0 and gradient 0.
        inputs: Key, attribute or position in the batch of what the model takes.
        labels: Key, attribute or position of the labels, integers `(batch, *positions)`, often `(batch,)`.
        apply_fn: `(model, batch) -> logits`, for a model that takes more than the inputs, and for functional models;
            `model(inputs)` by default.

    Returns:
        `(model, batch, key) -> (losses, {"accuracy": ...})`, all `(batch,)`. The logits are
        `(batch, *positions, classes)`. With positions, losses and accuracies are means over the positions of an example
        that count; with `ignore_label` the metric `examples` is the fraction of positions that count, so that the mean
        over a batch or a set is the mean over positions.

    Raises:
        ValueError: If `label_smoothing` is outside [0, 1) or `ignore_label` is not an integer, or, while tracing, if
            shapes or dtypes do not fit, or the batch does not show where its parts are.

    References:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016 (label
        smoothing).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> batch = jnp.array([[0.0, 1000.0], [0.0, 0.0]]), jnp.array([1, 1])
        >>> losses, metrics = train.losses.classification()(lambda logits: logits, batch, None)
        >>> print(losses, metrics["accuracy"])
        [0.        0.6931472] [ True False]
        >>> loss_fn = train.losses.classification(
        ...     labels="fine", apply_fn=lambda model, batch: model(batch["image"], batch["mask"]))
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing: expected a number from 0 to below 1, got {label_smoothing}")
    ignored = None if ignore_label is None else whole(ignore_label)
    if ignored is None and ignore_label is not None:
        raise ValueError(f"ignore_label: expected an integer or None, got {ignore_label!r}")
    return Classification(
        inputs=inputs,
        targets=labels,
        apply_fn=apply_fn,
        label_smoothing=float(label_smoothing),
        ignore_label=ignored,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Supervised):
    """The loss that `losses.classification` makes."""

    label_smoothing: float
    ignore_label: int | None

    option = "labels"

    def checked(self, outputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
        """Logits in float32 at least, and class numbers."""
        outputs = floating(outputs)
        if jnp.ndim(outputs) < 2 or jnp.shape(targets) != jnp.shape(outputs)[:-1]:
            shape, advice = jnp.shape(targets), ""
            if shape == jnp.shape(outputs):
                advice = "; make class numbers of one-hot labels: jnp.argmax(labels, -1)."
            elif shape == (*jnp.shape(outputs)[:-1], 1):
                advice = "; drop the last axis: labels[..., 0]."
            raise ValueError(
                "model: expected logits (batch, classes) for labels (batch,), or both with positions after the batch, "
                f"got {jnp.shape(outputs)} for {shape}{advice}"
            )
        check_kind("labels", targets, jnp.integer, "integer class numbers", "jnp.int32")
        return outputs, jnp.asarray(targets)

    def labelled(self, targets: Any) -> Any:
        """Which labels are not the ignored one."""
        if self.ignore_label is None:
            return None
        limits = jnp.iinfo(targets.dtype)
        if not limits.min <= self.ignore_label <= limits.max:
            return targets == targets
        return targets != np.asarray(self.ignore_label, targets.dtype)

    def pointwise(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, Metrics]:
        """Cross-entropies, and whether the largest logit is the label's."""
        classes, limits = outputs.shape[-1], jnp.iinfo(targets.dtype)
        # In the labels' dtype: converting first could wrap one label into another.
        is_class = targets <= jnp.asarray(min(classes - 1, limits.max), targets.dtype)
        is_class &= targets >= jnp.zeros((), targets.dtype)
        # A valid index: optax takes -1 for the last class. Labels that are not a class become NaN below.
        safe = jnp.where(is_class, targets, jnp.zeros_like(targets)).astype(jnp.int32)
        if self.label_smoothing:
            one_hot = jax.nn.one_hot(safe, classes, dtype=outputs.dtype)
            losses = optax.softmax_cross_entropy(outputs, optax.smooth_labels(one_hot, self.label_smoothing))
        else:
            losses = optax.softmax_cross_entropy_with_integer_labels(outputs, safe)
        losses = jnp.where(is_class, losses, jnp.full_like(losses, jnp.nan))
        return losses, {"accuracy": is_class & (jnp.argmax(outputs, -1).astype(safe.dtype) == safe)}

    def invalid(self, targets: np.ndarray, outputs: Any) -> tuple[np.ndarray, str, str] | None:
        """Labels that are not a class."""
        if targets.dtype.kind not in "iu" or outputs.ndim != targets.ndim + 1:
            return None
        bad, expected = (targets < 0) | (targets >= outputs.shape[-1]), f"class numbers 0..{outputs.shape[-1] - 1}"
        advice = (
            "count classes from 0 and give the model one logit a class, or leave a value out with "
            "losses.classification(ignore_label=...)"
        )
        return bad, expected, advice

    def none_counts(self) -> str:
        """The error where nothing counts."""
        if self.steps is None:
            return f"expected at least one that is not ignore_label={self.ignore_label}, got none"
        return super().none_counts()
