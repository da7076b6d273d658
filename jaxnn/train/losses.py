"""Losses in the log domain and penalties on the weights."""

import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxnn.train.batching import Metrics
from jaxnn.train.step import LossFn, Penalty


class LabelledImages(Protocol):
    """A batch with `images` `(batch, ...)` and integer `labels` `(batch,)`, such as `jaxnn.data.Examples`."""

    @property
    def images(self) -> jax.Array:
        """Whatever the model takes, `(batch, ...)`."""

    @property
    def labels(self) -> jax.Array:
        """Class numbers from 0, `(batch,)`."""


def classification_loss(label_smoothing: float = 0.0) -> LossFn:
    r"""Makes the cross-entropy of a model's logits, with accuracy for a metric.

    \[ \ell = -\sum_k q_k \log \mathrm{softmax}(z)_k = \log \sum_k e^{z_k} - \sum_k q_k z_k, \qquad
    q_k = (1 - \varepsilon) [k = y] + \varepsilon / K \]

    computed in the log domain and in float32 at least, so that large logits lose nothing.

    Args:
        label_smoothing: \(\varepsilon\), from 0 (the labels as they are) to below 1. Evaluation uses it too,
            so that losses of training and test compare.

    Returns:
        `(model, batch, key) -> (losses, {"accuracy": ...})`, all `(batch,)`. `model(batch.images)` must
        return logits `(batch, classes)`; `batch.labels` are integers `(batch,)`.

    Raises:
        ValueError: If `label_smoothing` is outside [0, 1), or, while tracing, if shapes or dtypes do not fit.

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

    def loss_fn(model: Any, batch: LabelledImages, key: jax.Array | None) -> tuple[jax.Array, Metrics]:
        logits, labels = model(batch.images), batch.labels
        if jnp.ndim(logits) != 2 or jnp.shape(labels) != jnp.shape(logits)[:1]:
            raise ValueError(
                "model: expected logits (batch, classes) for labels (batch,), got "
                f"{jnp.shape(logits)} for {jnp.shape(labels)}"
            )
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(f"labels: expected integer class numbers, got {labels.dtype}")
        # uint8 labels would overflow in the arithmetic of indexing.
        labels = labels.astype(jnp.int32)
        logits = logits if logits.dtype == jnp.float64 else logits.astype(jnp.float32)
        if label_smoothing:
            one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
            losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, label_smoothing))
        else:
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses, {"accuracy": jnp.argmax(logits, -1) == labels}

    return loss_fn


def weight_mask(params: Any) -> Any:
    """Tells weights from the rest: True for arrays of two axes or more.

    Kernels and matrices have them; biases, scales and offsets of normalisation, and scalars, which are
    commonly left out of regularisation, do not. For `optax.adamw(..., mask=train.weight_mask)`.

    Args:
        params: Any pytree of arrays.

    Returns:
        A pytree of bools of the same structure.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> train.weight_mask({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)})
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
