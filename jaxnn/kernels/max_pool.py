"""Max pooling; its derivative is, for each window, the tangent at the window's winner.

The winner is the first maximum in row-major order. A NaN wins over every number, and the last of several NaN wins, as
in PyTorch. Padding never wins, not even if all elements of a window are minus infinity.

The derivatives of `jax.lax` give the gradient of such a window to padding, use zero as the tangent of minus infinity,
and give the gradient of a NaN to its neighbour. So these programs differ from those of `jax.lax` on every platform.
They find the winner tap by tap, in operations that vectorise; in large windows, by one reduction over pairs of value
and position.
"""

import functools
import math
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad

from jaxnn.kernels.accumulate import accumulator, widened
from jaxnn.kernels.blocks import map_apart
from jaxnn.kernels.geometry import Sizes, Window, known, lax_reduce, pad
from jaxnn.kernels.platform import batch_leading, bind, by_platform, linear_in_first
from jaxnn.kernels.settings import is_plain
from jaxnn.kernels.taps import col2im, im2col, many, padded

SMALL_TILE = 4
"""Taps up to which a tile's maximum is taken tap by tap where it is differentiated.

Times of a training step with 2x2, relative to those by one operation: the CIFAR-10 network 0.89 to 0.98, LeNet 0.93 to
1.0. Larger tiles were not measured.
"""

LARGE_TILE = 16
"""Taps from which on the winner of a tile is found by reductions, not tap by tap.

The time of a gradient in float32 and bfloat16, relative to that by taps: 2x2 2.2 and 1.0, 3x3 1.5 and 0.6, 4x4 1.0 and
0.05, 8x8 0.07 and 0.02. 28x28, relative to that by places: 0.22 and 0.06.
"""


def max_pool(x: jax.Array, window: Window) -> jax.Array:
    """Takes the maximum of each window: maps `(batch, *spatial, channels)` to `(batch, *out, channels)`."""
    return bind(max_pool_p, x, window=window, differentiated=False)


def lowest(dtype: Any) -> np.ndarray:
    """Returns the neutral element of the maximum."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return np.asarray(jnp.iinfo(dtype).min, dtype)
    infinity = np.asarray(-np.inf, dtype)  # a dtype without infinity makes it NaN, or its lowest number
    return infinity if np.isinf(infinity) else np.asarray(jnp.finfo(dtype).min, dtype)


def _pool(x: jax.Array, *, window: Window, differentiated: bool) -> jax.Array:
    if is_plain():
        return _pool_by_axis(x, window)
    return lax_reduce(x, lowest(x.dtype), lax.max, window)


def _pool_on_cpu(x: jax.Array, *, window: Window, differentiated: bool) -> jax.Array:
    """As `_pool`. XLA can compute that and what is before it, a convolution and ReLU, in one call.

    A derivative needs the input too. Then it is faster that one loop computes ReLU and the maximum.
    """
    if not (differentiated and window.tiles(x.shape[1:-1]) and math.prod(window.size) <= SMALL_TILE):
        return _pool(x, window=window, differentiated=differentiated)
    return functools.reduce(jnp.maximum, im2col(x, window, x.shape[1:-1]))


def _pool_by_axis(x: jax.Array, window: Window) -> jax.Array:
    """Pools one axis after another, as arrays with three axes: converters support windows over one axis only."""
    for axis, size in enumerate(window.size, start=1):
        at = slice(axis - 1, axis)
        one = Window((size,), window.stride[at], window.padding[at], window.dilation[at])
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        flat = x.reshape(math.prod(before), x.shape[axis], math.prod(after))
        pooled = lax_reduce(flat, lowest(x.dtype), lax.max, one)
        x = pooled.reshape(*before, pooled.shape[1], *after)
    return x


# The tangent at the winner, and its transpose: the cotangent at the winner, zero elsewhere.


def _take(tangent: jax.Array, x: jax.Array, *, window: Window) -> jax.Array:
    if many(window.size):
        place = _place(x, window)
        taken = jnp.take_along_axis(_flat(tangent), _flat(place), axis=1, mode="fill", fill_value=0)
        return taken.reshape(place.shape)
    winner = _winner(x, window=window)
    taken = jnp.zeros_like(winner, tangent.dtype)
    for t, tap in enumerate(im2col(padded(tangent, window), window, x.shape[1:-1])):
        taken = jnp.where(winner == t, tap, taken)
    return taken


def _take_on_cpu(tangent: jax.Array, x: jax.Array, *, window: Window) -> jax.Array:
    return map_apart(partial(_take, window=window), tangent, x)


def _give(g: jax.Array, x: jax.Array, *, window: Window) -> jax.Array:
    if many(window.size):
        nothing = jnp.zeros_like(_flat(x), accumulator(g.dtype))
        add = jax.vmap(jax.vmap(lambda a, at, g: a.at[at].add(g, mode="drop"), -1, -1))
        return add(nothing, _flat(_place(x, window)), _flat(widened(g))).astype(g.dtype).reshape(x.shape)
    return _give_by_taps(g, _winner(x, window=window), window=window, spatial=x.shape[1:-1])


def _give_by_taps(g: jax.Array, winner: jax.Array, *, window: Window, spatial: Sizes) -> jax.Array:
    taps = range(math.prod(window.size))
    if set(window.stride) != {1}:
        return col2im([jnp.where(winner == t, g, 0) for t in taps], window, spatial)
    back, out = window.mirrored(), winner.shape[1:-1]
    winners, given = im2col(padded(winner, back), back, out), im2col(padded(g, back), back, out)
    shares = [jnp.where(w == t, share, 0) for w, share, t in zip(winners, given, reversed(taps), strict=True)]
    return functools.reduce(operator.add, map(widened, shares)).astype(g.dtype)


def _give_by_phases(g: jax.Array, winner: jax.Array, *, window: Window, spatial: Sizes) -> jax.Array:
    """As `_give_by_taps`, for strides s: inputs s m + a, of phase a, are seen from the places m - q by taps s q + a.

    So a phase is a sum of arrays of the size of `g`, moved by q, and only the phases are spread over the input, not the
    share of each tap. A gradient of 3x3 with stride 2, 56x56x64, batch 32, takes 16 instead of 45 ms with JAX 0.10.2,
    13 instead of 16 with 0.12.
    """
    stride, out = window.stride, winner.shape[1:-1]
    reach = [d * (k - 1) // s for k, s, d in zip(window.size, stride, window.dilation, strict=True)]
    sizes = [-(-(n + low + high) // s) for n, s, (low, high) in zip(spatial, stride, window.padding, strict=True)]
    edges = [(q, m - o, 0) for q, m, o in zip(reach, sizes, out, strict=True)]
    both = lax.optimization_barrier((pad(g, edges), pad(winner, edges, -1)))
    phases: dict[Sizes, jax.Array] = {}
    for t, tap in enumerate(window.taps()):
        start = [q - at // s for q, at, s in zip(reach, tap, stride, strict=True)]
        stop = [first + m for first, m in zip(start, sizes, strict=True)]
        given, won = (lax.slice(a, (0, *start, 0), (len(a), *stop, a.shape[-1])) for a in both)
        share = widened(jnp.where(won == t, given, 0))
        phase = tuple(at % s for at, s in zip(tap, stride, strict=True))
        phases[phase] = phases[phase] + share if phase in phases else share
    spread = []
    for phase, total in phases.items():
        first = [a - low for a, (low, _) in zip(phase, window.padding, strict=True)]
        last = [f + s * (m - 1) + 1 for f, s, m in zip(first, stride, sizes, strict=True)]
        spread.append(
            pad(total, [(f, n - end, s - 1) for f, n, end, s in zip(first, spatial, last, stride, strict=True)])
        )
    return functools.reduce(operator.add, spread).astype(g.dtype)


def _give_on_cpu(g: jax.Array, x: jax.Array, *, window: Window, blocked: bool) -> jax.Array:
    if not window.tiles(x.shape[1:-1]):
        if many(window.size) or not blocked:
            return _give(g, x, window=window)
        if set(window.stride) != {1}:
            winner = lax.optimization_barrier(_winner(x, window=window))
            return lax.optimization_barrier(_give_by_phases(g, winner, window=window, spatial=x.shape[1:-1]))
        winner = map_apart(partial(_winner, window=window), x)
        return map_apart(partial(_give_by_taps, window=window, spatial=x.shape[1:-1]), g, winner)
    # Tiles: every input element belongs to one window and is compared with its winner.
    by_taps = math.prod(window.size) < LARGE_TILE
    # Kept apart, so that it is not computed again for each element of the tile.
    winner = lax.optimization_barrier(_winner(x, window=window) if by_taps else _winner_of_tile(x, window))
    inside, number = _of_tile(window, winner.dtype)
    given = jnp.where(jnp.expand_dims(winner, inside) == number, jnp.expand_dims(g, inside), 0)
    covered = [o * k for o, k in zip(winner.shape[1:-1], window.size, strict=True)]
    whole = given.reshape(len(g), *covered, g.shape[-1])
    return pad(whole, [(0, n - c, 0) for n, c in zip(x.shape[1:-1], covered, strict=True)])


def _winner(x: jax.Array, *, window: Window) -> jax.Array:
    """Finds the number of the winning tap of each window."""
    taps = im2col(padded(x, window, lowest(x.dtype)), window, x.shape[1:-1])
    best = taps[0]
    winner = jnp.zeros_like(best, jnp.int8 if len(taps) < 128 else jnp.int32)
    if any(not known(low) or low > 0 for low, _ in window.padding):
        winner = winner + _first(window, best.shape[1:-1]).astype(winner.dtype)
    for t, tap in enumerate(taps[1:], start=1):
        wins = (tap > best) | (tap != tap)
        winner = jnp.where(wins, t, winner)
        best = jnp.where(wins, tap, best)
    return winner


def _winner_of_tile(x: jax.Array, window: Window) -> jax.Array:
    """As `_winner`, for large windows that tile the input: by two reductions instead of a pass for each tap."""
    out, taps = window.out(x.shape[1:-1]), math.prod(window.size)
    whole = lax.slice(x, [0] * x.ndim, [len(x), *(o * k for o, k in zip(out, window.size, strict=True)), x.shape[-1]])
    sides = [side for pair in zip(out, window.size, strict=True) for side in pair]
    tile = whole.reshape(len(x), *sides, x.shape[-1])
    dtype = next(dtype for dtype in (jnp.int8, jnp.int16, jnp.int32) if taps <= jnp.iinfo(dtype).max)
    inside, number = _of_tile(window, dtype)
    won = tile == tile.max(inside, keepdims=True)
    # The least rank wins: the last NaN, where there is one, otherwise the first maximum.
    rank = jnp.where(tile != tile, -1 - number, jnp.where(won, number, taps)).min(inside)
    return jnp.where(rank < 0, -1 - rank, rank)


def _of_tile(window: Window, dtype: Any) -> tuple[tuple[int, ...], jax.Array]:
    """The axes inside a tile, of `(batch, out, size, out, size, ..., channels)`, and the number of each tap there."""
    inside = tuple(range(2, 2 + 2 * len(window.size), 2))
    sides = [side for size in window.size for side in (1, size)]
    return inside, jnp.arange(math.prod(window.size), dtype=dtype).reshape(1, *sides, 1)


def _first(window: Window, out: Sizes) -> jax.Array:
    """Finds the number of the first tap of each window past the low padding: `(1, *out, 1)`."""
    number = jnp.zeros((1,) * (len(out) + 2), jnp.int32)
    shape = (1, *out, 1)
    for axis, (k, s, (low, _), d) in enumerate(
        zip(window.size, window.stride, window.padding, window.dilation, strict=True), start=1
    ):
        before = low - s * lax.broadcasted_iota(jnp.int32, shape, axis)
        number = number * k + jnp.clip(-(-before // d), 0, k - 1)
    return number


def _flat(x: jax.Array) -> jax.Array:
    """Joins the spatial axes of `(batch, *spatial, channels)` into one."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])


def _place(x: jax.Array, window: Window) -> jax.Array:
    """Finds the position of each window's winner in `x`; past the end if a window covers only padding."""
    spatial = x.shape[1:-1]
    nowhere = np.int32(math.prod(spatial))
    place = lax.broadcasted_iota(jnp.int32, (nowhere, 1), 0).reshape(1, *spatial, 1)

    def better(a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        (x, i), (y, j) = a, b
        lost, wins = x != x, (y > x) | (y != y)
        # Of equal numbers the first place wins, of NaN the last; padding loses to any place.
        later = jnp.where(lost & (y != y), (j > i) & (j < nowhere), (x == y) & (j < i))
        second = (wins & ~lost) | later
        return jnp.where(second, y, x), jnp.where(second, j, i)

    return lax_reduce((x, jnp.broadcast_to(place, x.shape)), (lowest(x.dtype), nowhere), better, window)[1]


max_pool_p = by_platform("max_pool", _pool, _pool_on_cpu, sharded=_pool)
take_p = by_platform("max_pool_take", _take, _take_on_cpu, sharded=_take)
give_p = by_platform(
    "max_pool_give", _give, partial(_give_on_cpu, blocked=True), sharded=partial(_give_on_cpu, blocked=False)
)

for _primitive in (max_pool_p, take_p, give_p):
    batch_leading(_primitive)
linear_in_first(take_p, give_p)
linear_in_first(give_p, take_p)


def _max_pool_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, window: Window, differentiated: bool) -> Any:
    (x,), (tangent,) = primals, tangents
    return bind(max_pool_p, x, window=window, differentiated=True), bind(take_p, tangent, x, window=window)


ad.primitive_jvps[max_pool_p] = _max_pool_jvp
