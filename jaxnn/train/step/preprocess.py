"""Preprocessing of stored pictures for a network, inside the compiled step."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxnn.train.losses import fields
from jaxnn.train.losses.fields import Place
from jaxnn.train.step.augment import Augmentation
from jaxnn.train.step.step import Preprocess


def image_preprocess(
    *,
    mean: ArrayLike = 0.0,
    std: ArrayLike = 1.0,
    augmentation: Augmentation | None = None,
    inputs: Place | None = None,
) -> Preprocess:
    r"""Makes the `preprocess` that turns stored pictures into floats: scaling, normalisation, augmentation.

    .. math:: x = \frac{p / 255 - \mu}{\sigma}

    for uint8 pictures; floating-point ones are not divided by 255. Augmentation follows, in training only; training and
    evaluation are normalised alike.

    Args:
        mean: :math:`\mu`, a number or one per channel, in units of the scaled pictures (0 to 1 for uint8).
        std: :math:`\sigma`, in the same form, positive.
        augmentation: `(key, images) -> images`, for example `augment.compose(augment.random_flip, ...)`.
        inputs: Key, attribute or position of the images in a batch, `(batch, height, width, channels)`. By default they
            are found as `losses.classification` finds its inputs; a batch may also be the images alone.

    Returns:
        `(key, batch) -> batch`, which replaces the images.

    Raises:
        ValueError: If `std` is not positive, or, while tracing, if the images cannot be found in the batch or are
            neither uint8 nor floats.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> batch = {"image": jnp.full((1, 2, 2, 1), 255, jnp.uint8), "label": jnp.array([1])}
        >>> train.image_preprocess(mean=0.5, std=0.25)(None, batch)["image"].ravel().tolist()
        [2.0, 2.0, 2.0, 2.0]
    """
    offset, scale = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    if not (scale > 0).all():
        raise ValueError(f"std: expected positive numbers, got {std}")

    return partial(_preprocess, offset=offset, scale=scale, augmentation=augmentation, inputs=inputs)


def _preprocess(
    key: jax.Array | None,
    batch: Any,
    *,
    offset: np.ndarray,
    scale: np.ndarray,
    augmentation: Augmentation | None,
    inputs: Place | None,
) -> Any:
    place = fields.find(batch, "inputs", inputs)
    images = fields.get(batch, place)
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    elif not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images: expected uint8 from 0 to 255, or floats, got {images.dtype}; convert them: "
            "images.astype(np.uint8)."
        )
    shape = (1,) * (images.ndim - 1) + (-1,)
    images = (images - offset.reshape(shape).astype(images.dtype)) / scale.reshape(shape).astype(images.dtype)
    if augmentation is not None and key is not None:
        images = augmentation(key, images)
    return fields.replace(batch, place, images)
