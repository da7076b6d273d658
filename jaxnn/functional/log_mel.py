"""Log-mel spectrograms, the usual input of networks for speech."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.functional.arguments import array, array_or_none, floating, integer, rank
from jaxnn.kernels.accumulate import widened


def log_mel(
    x: jax.typing.ArrayLike,
    rate: float,
    *,
    bands: int = 40,
    window: int | None = None,
    hop: int | None = None,
    low: float = 0.0,
    high: float | None = None,
    floor: float = 1e-6,
    past: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    r"""Computes the logarithm of a sound's power in bands of the mel scale, frame by frame.

    .. math::

        y_{tb} = \log \Bigl( \varepsilon + \sum_k f_{kb}
        \Bigl| \sum_{n=0}^{N-1} w_n \, x_{(t + 1) h - N + n} \, e^{-2 \pi i k n / K} \Bigr|^2 \Bigr)

    with the window length :math:`N`, the hop :math:`h`, the filters :math:`f` of `mel_filters`, :math:`K` the least
    power of two that is not below :math:`N`, and :math:`w` the periodic Hann window divided by its norm, so that white
    noise of variance :math:`\sigma^2` has the power :math:`\sigma^2` in each :math:`k`.

    Frame t ends at sample `(t + 1) * hop` and depends on no later one. If a sound of n samples is padded, its first
    `n // hop` frames are valid.

    To stream, pass chunks whose length is a multiple of `hop`, and as `past` the last `window - hop` samples before
    each chunk. The frames equal those of the whole sound.

    Args:
        x: Samples `(*batch, samples)`, from -1 to 1 by convention.
        rate: Samples per second. Static under `jax.jit`, like all options but `past`.
        bands: Number of bands.
        window: Samples of a frame; 25 milliseconds by default.
        hop: Samples from one frame to the next, at most `window`; 10 milliseconds by default.
        low: Lower edge of the first band, in hertz.
        high: Upper edge of the last band, in hertz; half the rate by default.
        floor: :math:`\varepsilon`, positive. Differences between powers far below it vanish.
        past: The `window - hop` samples before `x`, `(*batch, window - hop)`; zeros by default.

    Returns:
        Natural logarithms `(*batch, samples // hop, bands)`, in float32 at least.

    Raises:
        ValueError: If `x` is not of floats, or a number or shape does not fit.

    References:
        Davis and Mermelstein, Comparison of parametric representations for monosyllabic word recognition in
        continuously spoken sentences, IEEE TASSP 1980. Young et al., The HTK Book (the mel scale).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> tone = jnp.sin(2000 * jnp.pi * jnp.linspace(0, 1, 8001)[:-1])
        >>> heard = F.log_mel(tone, 8000, bands=20)
        >>> heard.shape, int(heard[50].argmax())
        ((100, 20), 9)
    """
    x, past = array("x", x), array_or_none("past", past)
    floating(x=x, past=past)
    rank("x", x, 1, "(*batch, samples)")
    rate = float(rate)
    if not 0 < rate < float("inf"):
        raise ValueError(f"rate: expected a finite positive number of samples per second, got {rate}")
    if not 0 < floor < float("inf"):
        raise ValueError(f"floor: expected a finite positive number, got {floor}; 1e-6 is the default.")
    window = integer("window", round(0.025 * rate) if window is None else window, 1)
    hop = integer("hop", min(window, round(0.010 * rate)) if hop is None else hop, 1)
    if hop > window:
        raise ValueError(f"hop: expected at most the window, {window} samples, got {hop}; frames would leave gaps.")
    before = (*x.shape[:-1], window - hop)
    if past is None:
        past = jnp.zeros(before, x.dtype)
    if past.shape != before:
        raise ValueError(
            f"past: expected the window - hop samples before x, of shape {before}, got {past.shape}; "
            "leave it out at the start of a sound."
        )
    return _log_mel(x, past, rate, bands, window, hop, low, high, floor)


@partial(jax.jit, static_argnames=("rate", "bands", "window", "hop", "low", "high", "floor"))
def _log_mel(
    x: jax.Array,
    past: jax.Array,
    rate: float,
    bands: int,
    window: int,
    hop: int,
    low: float,
    high: float | None,
    floor: float,
) -> jax.Array:
    x = widened(jnp.concatenate([past, x], axis=-1))
    size = 1 << (window - 1).bit_length()
    filters = mel_filters(rate, size, bands, low=low, high=high)
    hann = np.sin(np.pi * np.arange(window) / window) ** 2 if window > 1 else np.ones(1)
    starts = hop * np.arange((x.shape[-1] - (window - hop)) // hop)
    frames = x[..., starts[:, None] + np.arange(window)]
    frames = frames * jnp.asarray(hann / np.linalg.norm(hann), x.dtype).reshape((1,) * (frames.ndim - 1) + (window,))
    spectrum = jnp.fft.rfft(frames, size)
    power = spectrum.real**2 + spectrum.imag**2
    return jnp.log(jnp.matmul(power, jnp.asarray(filters, x.dtype), precision="highest") + floor)


def mel_filters(rate: float, size: int, bands: int, *, low: float = 0.0, high: float | None = None) -> np.ndarray:
    r"""Makes triangular filters whose centres are equally spaced on the mel scale.

    The scale is that of HTK, :math:`m = 2595 \log_{10}(1 + f / 700)` for a frequency :math:`f` in hertz. A filter is 1
    at its centre and falls, linearly in hertz, to 0 at the centres of its neighbours.

    Args:
        rate: Samples per second.
        size: Samples of the Fourier transform.
        bands: Number of filters.
        low: Frequency where the first filter starts.
        high: Frequency where the last filter ends; half the rate by default.

    Returns:
        Float64 `(size // 2 + 1, bands)`: `power @ filters` is the power in each band.

    Raises:
        ValueError: If a number is out of range, or a filter lies between two frequencies of the transform.

    Example:
        >>> from jaxnn import functional as F
        >>> F.mel_filters(8000, 256, 20).shape
        (129, 20)
    """
    bands, size = integer("bands", bands, 1), integer("size", size, 1)
    end = rate / 2 if high is None else high
    if not 0 <= low < end <= rate / 2:
        raise ValueError(
            f"low, high: expected 0 <= low < high <= {rate / 2:g}, half the rate, got low={low} and high={high}"
        )
    mel = np.linspace(2595 * np.log10(1 + low / 700), 2595 * np.log10(1 + end / 700), bands + 2)
    edges: Any = 700 * (10 ** (mel / 2595) - 1)
    frequencies = np.arange(size // 2 + 1)[:, None] * (rate / size)
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    empty = np.flatnonzero(~filters.any(axis=0))
    if empty.size:
        raise ValueError(
            f"bands: expected bands that hold a frequency of the transform, got {bands}, of which band {empty[0]}, "
            f"{edges[empty[0]]:.0f} to {edges[empty[0] + 2]:.0f} Hz, holds none; use fewer bands or a longer window."
        )
    return filters
