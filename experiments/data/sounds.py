"""Data of the speech experiment: recordings as log-mel frames, and their texts as characters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import functional as F
from jaxnn.data import Recordings

WINDOW, HOP, STACK = 0.032, 0.016, 2
"""Seconds of a frame, seconds from one frame to the next, and frames per step of the network."""
BANDS, HIGHEST, FLOOR = 32, 4000.0, 1e-6
"""Number of bands, and the highest frequency in hertz: that of telephones, enough for digits."""
AFTER = 0.16
"""Seconds of silence after each recording, where a causal network writes the last characters."""


class Speech(NamedTuple):
    """Recordings as the network reads them.

    Log-mel frames, `STACK` side by side, float32 `(n, time, STACK * BANDS)`; characters, int32 `(n, longest)`, from 1
    by their place in the alphabet; and how many count of both.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    label_lengths: np.ndarray


def sizes(rate: int) -> tuple[int, int]:
    """Samples of a frame, and from one frame to the next."""
    return round(WINDOW * rate), round(HOP * rate)


def stacked_log_mel(samples: jax.Array, rate: int, past: jax.Array | None = None) -> jax.Array:
    """Samples `(*batch, samples)` as stacks of frames `(*batch, samples // hop // STACK, STACK * BANDS)`."""
    window, hop = sizes(rate)
    high = min(HIGHEST, rate / 2)
    frames = F.log_mel(samples, rate, bands=BANDS, window=window, hop=hop, high=high, floor=FLOOR, past=past)
    return frames.reshape(*frames.shape[:-2], -1, STACK * BANDS)


def unstacked(stacks: np.ndarray) -> np.ndarray:
    """Stacks of one recording as frames, `(frames, BANDS)`."""
    return stacks.reshape(-1, BANDS)


def with_silence(samples: np.ndarray, rate: int) -> np.ndarray:
    """The samples and silence after them, to a whole number of stacks."""
    step = STACK * sizes(rate)[1]
    return np.pad(samples, (0, -len(samples) % step + round(AFTER * rate / step) * step))


def prepare(recordings: Recordings, alphabet: str) -> Speech:
    """Computes frames and labels; an unknown character, or a text too long for its recording, is an error."""
    step = STACK * sizes(recordings.rate)[1]
    sounds = [with_silence(samples, recordings.rate) for samples in recordings.samples]
    lengths = np.array([len(sound) // step for sound in sounds], np.int32)
    labels = np.zeros((len(sounds), max(map(len, recordings.texts))), np.int32)
    for row, name, text, length in zip(labels, recordings.names, recordings.texts, lengths, strict=True):
        if unknown := sorted({*text} - {*alphabet}):
            raise ValueError(
                f"--data-dir: expected recordings to test by with the characters of those to train on, {alphabet!r}, "
                f"got {', '.join(map(repr, unknown))} in the text of {name}; hold out another speaker with --held-out."
            )
        if length < len(text) + sum(map(str.__eq__, text, text[1:])):  # CTC separates equal characters by a blank
            raise ValueError(
                f"--data-dir: expected recordings as long as what they say, got {length * step / recordings.rate:.2f} "
                f"seconds for {text!r} in {name}; correct or remove it."
            )
        row[: len(text)] = [alphabet.index(character) + 1 for character in text]
    longest, inputs = step * lengths.max(), []
    for start in range(0, len(sounds), 64):  # all at once would take ten times the memory
        block = np.stack([np.pad(sound, (0, longest - len(sound))) for sound in sounds[start : start + 64]])
        inputs.append(stacked_log_mel(jnp.asarray(block, jnp.float32), recordings.rate))
    label_lengths = np.array([len(text) for text in recordings.texts], np.int32)
    return Speech(np.concatenate(inputs), lengths, labels, label_lengths)


def statistics(speech: Speech) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over the stacks that count."""
    frames = speech.inputs[np.arange(speech.inputs.shape[1]) < speech.lengths[:, None]]
    return frames.mean(0), np.maximum(frames.std(0), 1e-3)


def vary(key: jax.Array | None, batch: Any) -> Any:
    """Varies voice and loudness, in training only: the length of the vocal tract moves the bands up or down.

    Jaitly and Hinton, Vocal tract length perturbation improves speech recognition, 2013.
    """
    if key is None:
        return batch
    for_tract, for_loudness = jax.random.split(key)
    inputs = jnp.asarray(batch.inputs)
    tract = jax.random.uniform(for_tract, (len(inputs), 1, 1), minval=0.88, maxval=1.12)
    loudness = jax.random.normal(for_loudness, (len(inputs), 1, 1, 1))
    bands = jnp.arange(BANDS, dtype=inputs.dtype)
    places = jnp.minimum(bands[None, None] * tract, BANDS - 1)
    weights = jnp.maximum(0, 1 - jnp.abs(places - bands[None, :, None]))  # linear between two bands
    moved = jnp.einsum("ntsb,nbk->ntsk", inputs.reshape(*inputs.shape[:2], STACK, BANDS), weights)
    return batch._replace(inputs=(moved + loudness).reshape(inputs.shape))


def texts_of(labels: jax.Array, lengths: jax.Array, alphabet: str) -> list[str]:
    """Labels `(n, longest)` as texts."""
    rows = zip(np.asarray(labels), np.asarray(lengths), strict=True)
    return [" ".join("".join(alphabet[label - 1] for label in row[:n]).split()) for row, n in rows]
