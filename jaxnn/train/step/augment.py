"""Random changes to pictures, on the device: pure functions of a key, with one draw per picture.

All take `(*batch, height, width, channels)` with one batch axis or none, of any dtype, and keep shape and
dtype. They are meant for the `preprocess` of `make_step`, where they are compiled into the step.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.counts import check_count

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]
"""`(key, images) -> images`, shape and dtype kept."""


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each picture left to right with probability 1/2.

    Args:
        key: Random key.
        images: `(*batch, height, width, channels)`.

    Returns:
        The pictures, same shape and dtype.

    Raises:
        ValueError: If `images` does not have three or four axes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.train.step import augment
        >>> augment.random_flip(jax.random.key(1), jnp.arange(3).reshape(1, 3, 1)).ravel().tolist()
        [2, 1, 0]
    """
    _check(images)
    flip = jax.random.bernoulli(key, shape=(*images.shape[:-3], 1, 1, 1))
    return jnp.where(flip, images[..., ::-1, :], images)


def random_shift(key: jax.Array, images: jax.Array, pixels: int = 4) -> jax.Array:
    """Shifts each picture by up to `pixels` in both directions; the border is padded by reflection.

    Vertical and horizontal shifts are uniform over -`pixels` to `pixels`. The border pixel itself is not
    repeated (`jnp.pad` calls that "reflect").

    Args:
        key: Random key.
        images: `(*batch, height, width, channels)`.
        pixels: The largest shift, below height and width.

    Returns:
        The pictures, same shape and dtype.

    Raises:
        ValueError: If `images` does not have three or four axes, or `pixels` is negative or not below height and
            width.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.train.step import augment
        >>> picture = jnp.arange(6).reshape(1, 6, 1)
        >>> augment.random_shift(jax.random.key(3), jnp.tile(picture, (6, 1, 1)), 2)[0, :, 0].tolist()
        [2, 3, 4, 5, 4, 3]
    """
    _check(images)
    *batch, height, width, _ = images.shape
    if check_count("pixels", pixels, 0) >= min(height, width):
        raise ValueError(
            f"pixels: expected a shift from 0 to below height and width, {min(height, width)}, got {pixels}"
        )
    around = [(0, 0)] * len(batch) + [(pixels, pixels)] * 2 + [(0, 0)]
    padded = jnp.pad(images, around, mode="reflect")
    offsets = jax.random.randint(key, (*batch, 2), 0, 2 * pixels + 1)

    def crop(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, image.shape[-1]))

    return (jax.vmap(crop) if batch else crop)(padded, offsets)


def cutout(key: jax.Array, images: jax.Array, size: int, fill: float | jax.Array = 0) -> jax.Array:
    """Blanks one square in each picture, its centre on a random pixel; it may reach over the border.

    Args:
        key: Random key.
        images: `(*batch, height, width, channels)`.
        size: Side of the square in pixels.
        fill: The value inside, in the dtype of the pictures; 0 is the mean of normalised pictures.

    Returns:
        The pictures, same shape and dtype.

    Raises:
        ValueError: If `images` does not have three or four axes, `size` is negative, or `fill` is no value of pictures
            of integers.

    References:
        DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017,
        https://arxiv.org/abs/1708.04552

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.train.step import augment
        >>> augment.cutout(jax.random.key(0), jnp.ones((4, 5, 1), jnp.int32), 2)[..., 0].tolist()
        [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 0, 0, 1, 1], [1, 0, 0, 1, 1]]
    """
    _check(images)
    *batch, height, width, _ = images.shape
    check_count("size", size, 0)
    free = isinstance(fill, jax.core.Tracer) or jnp.issubdtype(images.dtype, jnp.inexact)
    if not free and np.any(np.asarray(fill).astype(images.dtype) != fill):
        raise ValueError(
            f"fill: expected a value that pictures of {images.dtype} hold, got {fill}; round it, or convert the "
            "pictures to floats first, as image_preprocess does."
        )
    row_key, column_key = jax.random.split(key)
    rows = _inside(jax.random.randint(row_key, batch, 0, height), height, size)
    columns = _inside(jax.random.randint(column_key, batch, 0, width), width, size)
    square = rows[..., :, None, None] & columns[..., None, :, None]
    return jnp.where(square, jnp.asarray(fill, images.dtype), images)


def compose(*augmentations: Augmentation) -> Augmentation:
    """Composes several augmentations, applied in order, each with a different key.

    Args:
        *augmentations: `(key, images) -> images`; further arguments are fixed with `functools.partial`.

    Returns:
        `(key, images) -> images`.

    Example:
        >>> import functools, jax, jax.numpy as jnp
        >>> from jaxnn.train.step import augment
        >>> change = augment.compose(augment.random_flip, functools.partial(augment.random_shift, pixels=2))
        >>> change(jax.random.key(0), jnp.zeros((8, 32, 32, 3), jnp.uint8)).shape
        (8, 32, 32, 3)
    """
    return partial(_composed, augmentations)


def _composed(augmentations: Sequence[Augmentation], key: jax.Array, images: jax.Array) -> jax.Array:
    for number, augmentation in enumerate(augmentations):
        images = augmentation(jax.random.fold_in(key, number), images)
    return images


def _inside(centre: jax.Array, length: int, size: int) -> jax.Array:
    """Returns which of `length` pixels lie in the `size` pixels around `centre`, `(*batch, length)`."""
    start = centre[..., None] - size // 2
    pixel = jax.lax.broadcasted_iota(start.dtype, (*centre.shape, length), centre.ndim)
    return (pixel >= start) & (pixel < start + size)


def _check(images: Any) -> None:
    if jnp.ndim(images) not in (3, 4):
        raise ValueError(
            f"images: expected (height, width, channels) or (batch, height, width, channels), got {jnp.shape(images)}"
        )
