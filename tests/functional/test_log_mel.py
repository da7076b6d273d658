"""Log-mel spectrograms against SciPy's short-time Fourier transform and a naive one in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxnn import functional as F

RATE, OPTIONS = 8000, {"bands": 12, "window": 200, "hop": 80}


def sound(*batch, seconds=0.1):
    return np.random.default_rng(0).normal(size=(*batch, int(RATE * seconds))).astype(np.float32) * 0.1


def mel(frequency):
    return 2595 * np.log10(1 + frequency / 700)


def naive_filters(rate, size, bands, low, high):
    edges = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(mel(low), mel(high), bands + 2)]
    filters = np.zeros((size // 2 + 1, bands))
    for k in range(size // 2 + 1):
        f = k * rate / size
        for b in range(bands):
            if edges[b] <= f <= edges[b + 1]:
                filters[k, b] = (f - edges[b]) / (edges[b + 1] - edges[b])
            elif edges[b + 1] < f <= edges[b + 2]:
                filters[k, b] = (edges[b + 2] - f) / (edges[b + 2] - edges[b + 1])
    return filters


def naive(x, window, hop, bands, low=0.0, high=RATE / 2, floor=1e-6):
    """One frame, one frequency and one band at a time."""
    size = next(2**k for k in range(20) if 2**k >= window)
    hann = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / window) for n in range(window)])
    hann /= np.sqrt((hann**2).sum())
    x = np.concatenate([np.zeros(window - hop), x.astype(np.float64)])
    filters = naive_filters(RATE, size, bands, low, high)
    rows = []
    for end in range(window, len(x) + 1, hop):
        frame = x[end - window : end] * hann
        power = [
            abs(sum(frame * np.exp(-2j * np.pi * k * np.arange(window) / size))) ** 2 for k in range(size // 2 + 1)
        ]
        rows.append(np.log(np.array(power) @ filters + floor))
    return np.array(rows)


@pytest.mark.parametrize(("low", "high"), [(0.0, 4000.0), (100.0, 3000.0)])
def test_it_equals_a_naive_one(low, high):
    x = sound(2, 3)
    made = F.log_mel(x, RATE, **OPTIONS, low=low, high=high)
    assert made.shape == (2, 3, 10, 12)
    np.testing.assert_allclose(made[1, 2], naive(x[1, 2], 200, 80, 12, low, high), rtol=1e-4, atol=1e-4)


def test_its_power_is_that_of_scipy():
    x = sound()
    hann = scipy.signal.get_window("hann", 200)
    padded = np.concatenate([np.zeros(120), x])
    how = {"noverlap": 120, "nfft": 256, "boundary": None, "padded": False}
    _, _, transform = scipy.signal.stft(padded, RATE, hann, nperseg=200, **how)  # divided by the sum of the window
    power = np.abs(transform) ** 2 * hann.sum() ** 2 / (hann**2).sum()
    filters = F.mel_filters(RATE, 256, 12)
    np.testing.assert_allclose(F.log_mel(x, RATE, **OPTIONS), np.log(power.T @ filters + 1e-6), rtol=1e-4, atol=1e-4)


def test_white_noise_has_its_variance_in_each_frequency():
    power = np.exp(F.log_mel(sound(seconds=20), RATE, **OPTIONS)) / F.mel_filters(RATE, 256, 12).sum(0)
    np.testing.assert_allclose(power.mean(0), 0.01, rtol=0.1)


def test_chunks_equal_the_whole():
    x = sound(2, seconds=0.2)
    whole = F.log_mel(x, RATE, **OPTIONS)
    past, frames = np.zeros((2, 120), np.float32), []
    for start in range(0, x.shape[1], 160):
        new = x[:, start : start + 160]
        frames.append(F.log_mel(new, RATE, **OPTIONS, past=past))
        past = np.concatenate([past, new], axis=1)[:, -120:]
    np.testing.assert_allclose(np.concatenate(frames, axis=1), whole, rtol=1e-5, atol=1e-5)


def test_a_frame_does_not_see_what_follows_and_the_gradient_agrees():
    x = jnp.asarray(sound())
    gradient = jax.jacrev(lambda x: F.log_mel(x, RATE, **OPTIONS)[3].sum())(x)
    assert not gradient[4 * 80 :].any()
    assert gradient[4 * 80 - 100 : 4 * 80 - 1].all()


def test_silence_is_the_logarithm_of_the_floor():
    made = F.log_mel(jnp.zeros(800, jnp.bfloat16), RATE, **OPTIONS, floor=1e-3)
    assert made.dtype == jnp.float32
    np.testing.assert_allclose(made, np.log(1e-3), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop": 201}, "hop: expected at most the window, 200 samples, got 201"),
        ({"bands": 200}, "bands: expected bands that hold a frequency of the transform, got 200"),
        ({"high": 5000.0}, "low, high: expected 0 <= low < high <= 4000"),
        ({"floor": 0.0}, "floor: expected a finite positive number"),
        ({"rate": -1.0}, "rate: expected a finite positive number"),
        ({"past": np.zeros(3, np.float32)}, r"past: expected .* of shape \(120,\), got \(3,\)"),
        ({"x": np.zeros(800, np.int16)}, "x: expected a floating dtype, got int16"),
        ({"x": np.float32(0.0)}, r"x: expected \(\*batch, samples\)"),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        F.log_mel(**{"x": sound(), "rate": RATE, **OPTIONS, **options})
