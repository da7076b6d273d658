"""Scenes of handwritten digits, drawn on the device from a key: sizes, places, overlaps and strokes between them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data import Boxed, Examples

SIZES = (12.0, 28.0)
"""Height in pixels of the smallest and the largest digit, which fills an 8×8 frame."""
INK = 0.4
"""A digit's box holds the pixels with at least this share of its ink."""
COVERED = 0.2
"""Largest fraction of a digit's frame, or of another digit's, that may overlap; otherwise the digit is left out."""
STROKES = 4
"""Straight strokes in a scene, as distractors."""


def scenes(key: jax.Array, digits: Examples, count: int, side: int, most: int) -> Boxed:
    """Draws scenes `(count, side, side, 1)` uint8 of up to `most` digits each, with their boxes.

    Each scene has 0 to `most` digits, drawn from `digits`, stretched, and placed at random so that none covers another
    by more than a fifth, on a gradient of brightness with strokes and noise.
    """
    images, labels = jnp.asarray(digits.images), jnp.asarray(digits.labels)
    return jax.vmap(lambda key: scene(key, images, labels, side, most))(jax.random.split(key, count))


def scene(key: jax.Array, images: jax.Array, labels: jax.Array, side: int, most: int) -> Any:
    """Draws one scene; `images` are `(n, 8, 8, 1)` uint8."""
    # Few calls of jax.random, each of which takes a second to compile.
    numbers, pixels = jax.random.split(key)
    drawn = jax.random.uniform(numbers, (6 * most + 6 * STROKES + 3,))
    which, high, wide, across, down, bright = drawn[: 6 * most].reshape(6, most)
    count, right, below = drawn[-3:]

    index = jnp.minimum((which * len(images)).astype(jnp.int32), len(images) - 1)
    height = SIZES[0] * jnp.exp(high * np.log(min(SIZES[1], side / 2) / SIZES[0]))
    size = jnp.stack([height * (0.8 + 0.35 * wide), height], axis=-1)
    corner = jnp.stack([across, down], axis=-1) * (side - size)
    kept = apart(corner, size) & (jnp.arange(most) < (count * (most + 1)).astype(jnp.int32))

    # The share of each pixel's place along an axis that each of the 8 rows or columns has: linear interpolation.
    places = (jnp.arange(side) + 0.5).reshape(1, 1, side, 1) - corner[..., None, None]
    within = 8 * places / size[..., None, None] - 0.5 - jnp.arange(8.0).reshape(1, 1, 1, 8)
    shares = jnp.maximum(0, 1 - jnp.abs(within))
    digit = images[index, ..., 0].astype(jnp.float32) / 255
    ink = jnp.where(kept[:, None, None], jnp.einsum("nxj,nij,nyi->nyx", shares[:, 0], digit, shares[:, 1]), 0)
    boxes = edges(ink > INK * jnp.max(ink, axis=(1, 2), keepdims=True))

    marks = jnp.max(ink * (0.5 + 0.5 * bright)[:, None, None], axis=0, initial=0)
    marks = jnp.maximum(marks, strokes(drawn[6 * most : -3].reshape(6, STROKES), side))
    line = jnp.linspace(0, 0.15, side)
    noise = jax.random.uniform(pixels, (side, side), minval=-0.08, maxval=0.08)
    background = right * line[None] + below * line[:, None] + noise
    picture = jnp.clip(background + (1 - background) * marks, 0, 1)
    return Boxed(
        jnp.round(255 * picture).astype(jnp.uint8)[..., None],
        jnp.where(kept[:, None], boxes, 0),
        jnp.where(kept, labels[index], -1),
        jnp.zeros(most, bool),
    )


def apart(corner: jax.Array, size: jax.Array) -> jax.Array:
    """Chooses the frames to keep, one after another: those that hardly cover any kept before."""
    end, area = corner + size, jnp.prod(size, axis=-1)
    inner = jnp.minimum(end[:, None], end[None]) - jnp.maximum(corner[:, None], corner[None])
    shared = jnp.prod(jnp.maximum(inner, 0), axis=-1) / jnp.minimum(area[:, None], area[None])

    def one_more(n: jax.Array, kept: jax.Array) -> jax.Array:
        return kept.at[n].set(~jnp.any(kept & (shared[n] > COVERED)))

    return jax.lax.fori_loop(0, len(size), one_more, jnp.zeros(len(size), bool))


def edges(inside: jax.Array) -> jax.Array:
    """The smallest box around the true pixels of each mask `(n, side, side)`: left, top, right, bottom."""
    side, ends = inside.shape[-1], []
    for axis in (1, 2):  # over the rows for x, over the columns for y
        held = jnp.any(inside, axis=axis)
        ends.append((jnp.argmax(held, axis=-1), side - jnp.argmax(held[:, ::-1], axis=-1)))
    (left, right), (top, bottom) = ends
    return jnp.stack([left, top, right, bottom], axis=-1).astype(jnp.float32)


def strokes(drawn: jax.Array, side: int) -> jax.Array:
    """Draws straight strokes, thinner than digits, `(side, side)`, from numbers `(6, n)` of 0 to 1."""
    across, down, turned, long, wide, bright = drawn[..., None, None]
    angle, length, half = 2 * np.pi * turned, 4 + long * (side / 4 - 4), 0.4 + 0.5 * wide
    x = (jnp.arange(side) + 0.5).reshape(1, 1, side) - side * across
    y = (jnp.arange(side) + 0.5).reshape(1, side, 1) - side * down
    reach = jnp.clip(x * jnp.cos(angle) + y * jnp.sin(angle), 0, length)
    distance = jnp.hypot(x - reach * jnp.cos(angle), y - reach * jnp.sin(angle))
    return jnp.max((0.3 + 0.6 * bright) * jnp.clip(half + 0.5 - distance, 0, 1), axis=0)
