"""Losses of detectors that predict a heat map of centres, and size and offset of the boxes around them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.counts import check_not_negative
from jaxnn.functional import BoxMaps, encode_boxes
from jaxnn.train.losses import fields
from jaxnn.train.losses.supervised import ApplyFn, floating
from jaxnn.train.losses.types import LossFn, Metrics


def heatmap(
    logits: jax.Array | np.ndarray, heat: jax.Array | np.ndarray, *, alpha: float = 2.0, beta: float = 4.0
) -> jax.Array:
    r"""Computes the focal loss of a heat map, in which almost all cells are empty.

    .. math::

        \ell = -\frac{1}{N} \sum_{yxc} \begin{cases}
        (1 - p)^\alpha \log p & Y = 1 \\
        (1 - Y)^\beta \, p^\alpha \log(1 - p) & Y < 1
        \end{cases}, \qquad p = \sigma(z)

    with :math:`N` cells with :math:`Y = 1`, at least 1. Cells that are right with certainty have little weight, and so
    have cells beside a centre. Computed in the log domain and in float32 at least.

    Args:
        logits: Array :math:`z` of shape `(*batch, height, width, classes)`.
        heat: Array :math:`Y` of the same shape, from 0 to 1: the heat of `F.encode_boxes`.
        alpha: :math:`\alpha`, not negative; 0 gives all cells the same weight.
        beta: :math:`\beta`, not negative.

    Returns:
        Losses `(*batch,)`.

    Raises:
        ValueError: If shapes or dtypes do not fit, or a number is out of range.

    References:
        Law and Deng, CornerNet: Detecting Objects as Paired Keypoints, ECCV 2018. Lin et al., Focal Loss for Dense
        Object Detection, ICCV 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> heat = jnp.zeros((4, 4, 1)).at[1, 2].set(1.0)
        >>> logits = jnp.where(heat == 1, 4.0, -4.0)
        >>> print(f"{train.losses.heatmap(logits, heat):.5f} {train.losses.heatmap(-logits, heat):.1f}")
        0.00009 62.0
    """
    check_not_negative(alpha=alpha, beta=beta)
    logits = floating(logits)
    if logits.ndim < 3 or heat.shape != logits.shape:
        raise ValueError(
            f"heat: expected (*batch, height, width, classes) as the logits, {logits.shape}, got {heat.shape}"
        )
    heat = heat.astype(logits.dtype)
    centre = heat == 1
    right = jnp.where(centre, logits, -logits)
    # An infinite logit would give 0 * infinity; value and slope have the limits of min(right, 0).
    infinite = jnp.isinf(right)
    finite = jnp.where(infinite, jnp.zeros_like(right), right)
    # Powers of probabilities as exponentials of logarithms: their gradient is finite where a probability is 0.
    focal = jnp.exp(alpha * jax.nn.log_sigmoid(-finite)) * jax.nn.log_sigmoid(finite)
    each = jnp.where(infinite, jnp.minimum(right, 0), focal)
    axes = (-3, -2, -1)
    count = jnp.maximum(jnp.sum(centre, axes, dtype=logits.dtype), 1)
    return -jnp.sum(jnp.where(centre, each, (1 - heat) ** beta * each), axes) / count


def detection(
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
    size_weight: float = 0.1,
    offset_weight: float = 1.0,
    apply_fn: ApplyFn | None = None,
) -> LossFn:
    r"""Makes the loss of an anchor-free detector: of its heat map of centres, and of the size and offset of each box.

    .. math::

        \ell = \ell_\mathrm{heat} + \frac{1}{N} \sum_{k=1}^{N} \left(
        \lambda_\mathrm{size} \left\| \hat s_{c_k} - s_k \right\|_1 +
        \lambda_\mathrm{offset} \left\| \hat o_{c_k} - o_k \right\|_1 \right)

    with the loss `losses.heatmap`, and for each of the :math:`N` boxes of a picture the size and offset in the cell
    :math:`c_k` of its centre. `F.encode_boxes` makes the targets inside the compiled step.

    A batch is a `data.Boxed`, or a dictionary or another object with `images` `(batch, height, width, channels)`,
    `boxes` `(batch, n, 4)` and `classes` `(batch, n)`, -1 for padding; boxes that an optional `crowd` marks are not
    learned.

    Args:
        alpha: As for `losses.heatmap`.
        beta: As for `losses.heatmap`.
        size_weight: :math:`\lambda_\mathrm{size}`, not negative; sizes are in cells.
        offset_weight: :math:`\lambda_\mathrm{offset}`, not negative.
        apply_fn: `(model, batch) -> F.BoxMaps`; `model(images)` by default.

    Returns:
        `(model, batch, key) -> (losses, {"heat": ..., "size": ..., "offset": ...})`, all `(batch,)`: the loss and its
        three parts without their weights.

    Raises:
        ValueError: If a number is out of range, or, while tracing, if shapes or dtypes do not fit.

    References:
        Zhou, Wang and Krähenbühl, Objects as Points, 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models, train
        >>> batch = {
        ...     "images": jnp.ones((2, 32, 32, 1)),
        ...     "boxes": jnp.array([[[4.0, 4.0, 20.0, 24.0]], [[0.0, 0.0, 0.0, 0.0]]]),
        ...     "classes": jnp.array([[1], [-1]]),
        ... }
        >>> losses, parts = train.losses.detection()(models.Detector(1, 3, rngs=nnx.Rngs(0)), batch, None)
        >>> losses.shape, sorted(parts), float(parts["size"][1])
        ((2,), ['heat', 'offset', 'size'], 0.0)
    """
    check_not_negative(alpha=alpha, beta=beta, size_weight=size_weight, offset_weight=offset_weight)
    return Detection(float(alpha), float(beta), float(size_weight), float(offset_weight), apply_fn)


@dataclasses.dataclass(frozen=True)
class Detection:
    """The loss that `losses.detection` makes."""

    alpha: float
    beta: float
    size_weight: float
    offset_weight: float
    apply_fn: ApplyFn | None

    def __call__(self, model: Any, batch: Any, key: jax.Array | None) -> tuple[jax.Array, Metrics]:
        """The losses of a batch, and their parts."""
        images, boxes, classes = (jnp.asarray(fields.get(batch, name)) for name in ("images", "boxes", "classes"))
        maps = model(images) if self.apply_fn is None else self.apply_fn(model, batch)
        heat, size, offset = (floating(each) for each in BoxMaps(*maps))
        stride = max(1, images.shape[-3] // heat.shape[-3])
        if images.shape[-3:-1] != (heat.shape[-3] * stride, heat.shape[-2] * stride):
            raise ValueError(
                f"model: expected maps that divide the pictures {images.shape[-3:-1]} into square cells, "
                f"got {heat.shape[-3:-1]}; fill pictures up to a multiple of the stride."
            )
        crowd = batch.get("crowd") if isinstance(batch, dict) else getattr(batch, "crowd", None)
        if crowd is not None:
            classes = jnp.where(crowd, -1, classes)
        targets = encode_boxes(boxes.astype(heat.dtype), classes, heat.shape[-3:], stride=stride)
        count = jnp.maximum(jnp.sum(targets.present, -1, dtype=heat.dtype), 1)

        def error(values: jax.Array, true: jax.Array) -> jax.Array:
            cells = values.reshape(*values.shape[:-3], -1, 2)
            there = jnp.take_along_axis(cells, targets.cells[..., None], axis=-2)
            each = jnp.sum(jnp.abs(there - true), axis=-1)
            return jnp.sum(jnp.where(targets.present, each, 0), axis=-1) / count

        parts = {
            "heat": heatmap(heat, targets.heat, alpha=self.alpha, beta=self.beta),
            "size": error(size, targets.size),
            "offset": error(offset, targets.offset),
        }
        return parts["heat"] + self.size_weight * parts["size"] + self.offset_weight * parts["offset"], parts
