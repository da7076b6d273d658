"""Data of the speech experiment: recordings as log-mel frames, and their texts as characters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import functional as F
from jaxnn.data import Recordings

WINDOW, HOP, STACK = 0.032, 0.016, 2
"""Seconds of a frame, seconds from one frame to the next, and frames that the network sees at a time."""
BANDS, HIGHEST, FLOOR = 32, 4000.0, 1e-6
"""Bands, and where the last one ends, in hertz: half the rate of a telephone, enough to tell digits apart."""
AFTER = 0.16
"""Seconds of silence after each recording: a network that only looks back says the last characters there."""
BLANK = 0


class Speech(NamedTuple):
    """Recordings as the network takes them.

    Attributes:
        inputs: Log-mel frames, `STACK` side by side, float32 `(n, time, STACK * BANDS)`.
        lengths: How many stacks count, int32 `(n,)`.
        labels: Characters, int32 `(n, longest)`, numbers of the alphabet from 1.
        label_lengths: How many characters count, int32 `(n,)`.
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


def alphabet_of(texts: list[str]) -> str:
    """The characters of some texts; that of label k is the one at k - 1."""
    return "".join(sorted({character for text in texts for character in text}))


def prepare(recordings: Recordings, alphabet: str) -> Speech:
    """Computes frames and labels; raises where a text has another character or does not fit into its recording."""
    labels = np.zeros((len(recordings.texts), max(map(len, recordings.texts))), np.int32)
    for row, name, text in zip(labels, recordings.names, recordings.texts, strict=True):
        if unknown := sorted({*text} - {*alphabet}):
            raise ValueError(
                f"--data-dir: expected recordings to test by with the characters of those to train on, {alphabet!r}, "
                f"got {', '.join(map(repr, unknown))} in the text of {name}; hold out another speaker with --held-out."
            )
        row[: len(text)] = [alphabet.index(character) + 1 for character in text]
    step = STACK * sizes(recordings.rate)[1]
    sounds = [with_silence(samples, recordings.rate) for samples in recordings.samples]
    lengths = np.array([len(sound) // step for sound in sounds], np.int32)
    for name, text, length in zip(recordings.names, recordings.texts, lengths, strict=True):
        needed = len(text) + sum(map(str.__eq__, text, text[1:]))  # CTC separates equal characters by a blank
        if needed > length:
            raise ValueError(
                f"--data-dir: expected recordings as long as what they say, got {length * step / recordings.rate:.2f} "
                f"seconds for {text!r} in {name}; correct or remove it."
            )
    longest = int(lengths.max())
    inputs = np.zeros((len(sounds), longest, STACK * BANDS), np.float32)
    for start in range(0, len(sounds), 64):  # all at once would take ten times the memory
        block = np.zeros((64, longest * step), np.float32)
        for place, sound in zip(block, sounds[start : start + 64], strict=False):
            place[: len(sound)] = sound
        frames = stacked_log_mel(jnp.asarray(block), recordings.rate)
        inputs[start : start + 64] = np.asarray(frames)[: len(inputs) - start]
    return Speech(inputs, lengths, labels, np.array([len(text) for text in recordings.texts], np.int32))


def statistics(speech: Speech) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over the stacks that count."""
    frames = speech.inputs[np.arange(speech.inputs.shape[1]) < speech.lengths[:, None]]
    return frames.mean(0), np.maximum(frames.std(0), 1e-3)


def vary(key: jax.Array | None, batch: Any) -> Any:
    """Other voices and loudnesses, in training only: a longer or shorter vocal tract moves the bands up or down.

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


def text_of(labels: np.ndarray, length: int, alphabet: str) -> str:
    """Characters as text."""
    return " ".join("".join(alphabet[label - 1] for label in labels[:length]).split())
