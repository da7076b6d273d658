"""Feature maps: given kernels slide over pictures."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional import arguments
from jaxnn.functional.conv import conv
from jaxnn.kernels.accumulate import widened


def feature_maps(pictures: jax.typing.ArrayLike, kernels: jax.typing.ArrayLike, **options: Any) -> jax.Array:
    r"""Slides given kernels over pictures; each kernel is applied to every channel, and the results are added.

    .. math:: y[i, j, m] = \sum_{u, v, c} x[i + u, j + v, c]\; K_m[u, v],

    the cross-correlation of deep learning. Flip the kernels, `kernels[..., ::-1, ::-1]`, for the convolution of
    mathematics.

    Args:
        pictures: `(*batch, height, width, channels)`; grey ones have one channel, colour ones three.
        kernels: `(maps, height, width)`, or one kernel `(height, width)`. Kernels of different sizes need one call
            each.
        **options: Options of `conv`: stride, padding, pad_mode and so on; the default padding is `"VALID"`.

    Returns:
        `(*batch, height', width', maps)`.

    Raises:
        ValueError: If shapes, dtypes or options do not fit; the message names the argument.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> K1 = jnp.array([[-1.0, 0.0], [0.0, 1.0]])
        >>> K2 = jnp.array([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]])
        >>> picture = jnp.arange(16.0).reshape(4, 4, 1)
        >>> F.feature_maps(picture, K1)[..., 0]
        Array([[5., 5., 5.],
               [5., 5., 5.],
               [5., 5., 5.]], dtype=float32)
        >>> F.feature_maps(picture, K2)[..., 0]
        Array([[-32., -32.],
               [-32., -32.]], dtype=float32)
    """
    pictures, kernels = arguments.array("pictures", pictures), arguments.array("kernels", kernels)
    if kernels.ndim not in (2, 3):
        raise ValueError(f"kernels: expected (maps, height, width) or (height, width), got shape {kernels.shape}")
    arguments.rank(
        "pictures", pictures, 3, "(*batch, height, width, channels)", "grey ones have one channel: pictures[..., None]."
    )
    bias = arguments.array_or_none("bias", options.pop("bias", None))
    arguments.floating(pictures=pictures, kernels=kernels, bias=bias)
    kernels = kernels.reshape(-1, *kernels.shape[-2:])
    each = jnp.moveaxis(kernels, 0, -1)[:, :, None, :]
    # Wide, so that a kernel's gradients of the channels are not rounded before they are added.
    bank = jnp.broadcast_to(widened(each), (*each.shape[:2], pictures.shape[-1], each.shape[-1]))
    wide = conv(widened(pictures), bank, None if bias is None else widened(bias), **{"padding": "VALID", **options})
    return wide.astype(pictures.dtype)
