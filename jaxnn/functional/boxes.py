"""Targets and predictions of an anchor-free detector: boxes as maps of their centres, encoded and decoded."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.functional import arguments
from jaxnn.functional.pool import max_pool
from jaxnn.kernels.accumulate import widened
from jaxnn.shapes import text


class BoxMaps(NamedTuple):
    """Predictions of a detector in each cell of a grid over the picture.

    Attributes:
        heat: `(*batch, height, width, classes)`, logits that a centre lies in the cell.
        size: `(*batch, height, width, 2)`: width and height of a box with its centre there, in cells.
        offset: `(*batch, height, width, 2)`: position of the centre in the cell, x and y from 0 to 1.
    """

    heat: jax.Array
    size: jax.Array
    offset: jax.Array


class BoxTargets(NamedTuple):
    """Training targets of a detector: the true boxes, encoded.

    Attributes:
        heat: `(*batch, height, width, classes)`: 1 in the cell of a centre, falling to 0 around it.
        cells: The cell of each centre, int32 `(*batch, n)`, counted row by row.
        size: `(*batch, n, 2)`: width and height in cells.
        offset: `(*batch, n, 2)`: position of the centre in its cell.
        present: Bool `(*batch, n)`: true for a box, false for padding.
    """

    heat: jax.Array
    cells: jax.Array
    size: jax.Array
    offset: jax.Array
    present: jax.Array


class Detections(NamedTuple):
    """Detected boxes, in order of decreasing score.

    Attributes:
        boxes: `(*batch, top, 4)`: left, top, right and bottom edge in pixels.
        scores: `(*batch, top)`, from 0 to 1.
        classes: Integers `(*batch, top)`, int32; -1 is padding, with score 0.
    """

    boxes: jax.Array
    scores: jax.Array
    classes: jax.Array


def encode_boxes(
    boxes: jax.typing.ArrayLike,
    classes: jax.typing.ArrayLike,
    shape: Sequence[int],
    *,
    stride: int,
    least_iou: float = 0.7,
) -> BoxTargets:
    r"""Draws boxes as a heat map of their centres, with size and offset of each.

    .. math::

        Y_{yxc} = \max_{k : c_k = c} \exp\left(-\frac{(x - \lfloor p_k \rfloor)^2 + (y - \lfloor q_k \rfloor)^2}
        {2 \sigma_k^2}\right), \qquad
        \sigma_k = \frac{2 r_k + 1}{6}, \qquad
        r = \frac{w + h - \sqrt{(w + h)^2 - 4 w h \frac{1 - t}{1 + t}}}{2}

    Centre :math:`(p, q)`, width :math:`w` and height :math:`h` are in cells. A box of the same size, shifted by
    :math:`r` along both axes, has an intersection over union of :math:`t` with the true box. This is the one of
    CornerNet's three cases in which only the centre is wrong.

    Args:
        boxes: Floats `(*batch, n, 4)`: left, top, right and bottom edge in pixels, inside the picture.
        classes: Integers `(*batch, n)`. A class outside 0..classes - 1 marks padding; so does a box without width or
            height.
        shape: Height, width and classes of the heat map.
        stride: Pixels per cell.
        least_iou: The intersection over union :math:`t`, above 0 and below 1.

    Returns:
        The targets, in the dtype of `boxes`.

    Raises:
        ValueError: If a shape or dtype does not fit, or a number is out of range.

    References:
        Law and Deng, CornerNet: Detecting Objects as Paired Keypoints, ECCV 2018 (heat map and radius). Zhou, Wang
        and Krähenbühl, Objects as Points, 2019 (centres, size and offset).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> targets = F.encode_boxes(jnp.array([[4.0, 0.0, 14.0, 8.0]]), jnp.array([1]), (4, 4, 2), stride=4)
        >>> print(targets.heat[1, 2], targets.cells, targets.size, targets.offset)
        [0. 1.] [6] [[2.5 2. ]] [[0.25 0.  ]]
    """
    boxes, classes = arguments.array("boxes", boxes), arguments.array("classes", classes)
    arguments.floating(boxes=boxes)
    shape = arguments.listed(shape)
    if not isinstance(shape, Sequence) or len(shape) != 3:
        raise ValueError(f"shape: expected (height, width, classes) of the heat map, got {shape!r}")
    height, width, kinds = (arguments.integer("shape", n, 1) for n in shape)
    stride = arguments.integer("stride", stride, 1)
    if not 0 < least_iou < 1:
        raise ValueError(f"least_iou: expected a number above 0 and below 1, got {least_iou}")
    if boxes.ndim < 2 or boxes.shape[-1] != 4:
        raise ValueError(f"boxes: expected (*batch, n, 4), got {boxes.shape}")
    if classes.shape != boxes.shape[:-1] or not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(f"classes: expected integers {boxes.shape[:-1]}, got {classes.dtype} {classes.shape}")
    dtype, boxes = boxes.dtype, widened(boxes)  # float16 would overflow at the square of 256 cells
    low, high = boxes[..., :2], boxes[..., 2:]
    size, centre = (high - low) / stride, (low + high) / (2 * stride)
    present = (classes >= 0) & (classes < kinds) & jnp.all(size > 0, axis=-1)
    last = jnp.array([width - 1, height - 1], boxes.dtype).reshape((1,) * (boxes.ndim - 1) + (2,))
    cell = jnp.clip(jnp.floor(centre), 0, last)

    w, h = jnp.where(present, size[..., 0], 1), jnp.where(present, size[..., 1], 1)
    radius = (w + h - jnp.sqrt(jnp.square(w + h) - 4 * w * h * (1 - least_iou) / (1 + least_iou))) / 2
    sigma = (2 * radius + 1) / 6

    def bell(position: jax.Array, length: int) -> jax.Array:
        places = jax.lax.broadcasted_iota(boxes.dtype, (*position.shape, length), position.ndim)
        return jnp.exp(-jnp.square((places - position[..., None]) / sigma[..., None]) / 2)

    heat = bell(cell[..., 1], height)[..., :, None] * bell(cell[..., 0], width)[..., None, :]
    of_class = jax.nn.one_hot(jnp.where(present, classes, -1), kinds, dtype=boxes.dtype)
    heat = jnp.max(heat[..., None] * of_class[..., None, None, :], axis=-4, initial=0)
    cells = cell.astype(jnp.int32)
    heat, size, offset = (each.astype(dtype) for each in (heat, size, centre - cell))
    return BoxTargets(heat, cells[..., 1] * width + cells[..., 0], size, offset, present)


def decode_boxes(maps: BoxMaps, *, stride: int, top: int = 100, window: int = 3) -> Detections:
    """Finds boxes in a detector's predictions: the highest peaks of the heat map, with the size and offset there.

    A peak is a cell whose heat is the largest in the window around it, for each class separately. So an object is found
    once, without non-maximum suppression. Shapes are fixed, so it works under `jit` and `vmap`.

    Args:
        maps: The detector's predictions.
        stride: Pixels per cell.
        top: Number of boxes to return, at most height * width * classes.
        window: Side of the window, odd.

    Returns:
        The `top` best detections. Where there are fewer peaks, padding follows.

    Raises:
        ValueError: If a shape does not fit, or a number is out of range.

    References:
        Zhou, Wang and Krähenbühl, Objects as Points, 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> heat = jnp.full((4, 4, 2), -9.0).at[1, 2, 1].set(2.0)
        >>> maps = F.BoxMaps(heat, jnp.full((4, 4, 2), 2.0), jnp.full((4, 4, 2), 0.5))
        >>> found = F.decode_boxes(maps, stride=4, top=1)
        >>> print(found.boxes, found.scores, found.classes)
        [[ 6.  2. 14. 10.]] [0.880797] [1]
    """
    if not isinstance(maps, tuple | list) or len(maps) != 3:
        raise ValueError(f"maps: expected F.BoxMaps(heat, size, offset), got {text(maps)}")
    heat, size, offset = (arguments.array(name, each) for name, each in zip(BoxMaps._fields, maps, strict=True))
    arguments.floating(heat=heat, size=size, offset=offset)
    for name, each in (("size", size), ("offset", offset)):
        if heat.ndim < 3 or each.shape != (*heat.shape[:-1], 2):
            raise ValueError(
                f"maps: expected heat (*batch, height, width, classes) and {name} (*batch, height, width, 2), "
                f"got {heat.shape} and {each.shape}"
            )
    *batch, height, width, kinds = heat.shape
    stride, top = arguments.integer("stride", stride, 1), arguments.integer("top", top, 1)
    if top > height * width * kinds:
        raise ValueError(f"top: expected at most {height * width * kinds}, the size of the heat map, got {top}")
    if arguments.integer("window", window, 1) % 2 == 0:
        raise ValueError(f"window: expected an odd number, got {window}; 3 compares a cell with its neighbours.")
    # Logits, not probabilities: those of large logits all round to 1, and each cell of such a plateau would be a peak.
    peaks = jnp.where(heat >= max_pool(heat, window, stride=1, padding="SAME"), heat, -jnp.inf)
    logits, index = jax.lax.top_k(peaks.reshape(*batch, -1), top)
    cell, classes = index // kinds, (index % kinds).astype(jnp.int32)

    def there(values: jax.Array) -> jax.Array:
        return jnp.take_along_axis(values.reshape(*batch, height * width, 2), cell[..., None], axis=-2)

    corner = jnp.stack([cell % width, cell // width], axis=-1).astype(heat.dtype)
    centre, half = corner + there(offset), jnp.maximum(there(size), 0) / 2
    boxes = jnp.concatenate([centre - half, centre + half], axis=-1) * stride
    return Detections(boxes, jax.nn.sigmoid(logits), jnp.where(logits > -jnp.inf, classes, -1))
