"""The baseline of the speech experiment: connected words by the nearest templates, aligned by dynamic time warping.

A template is a recording of one word by a speaker of the training set. An utterance is a sequence of templates, each
stretched and squeezed in time; the sequence with the least sum of distances between frames is found by one pass of
dynamic programming over all frames of all templates (Ney, The use of a one-stage dynamic programming algorithm for
connected word recognition, IEEE TASSP 1984).
"""

from typing import NamedTuple

import numpy as np
from scipy.fft import dct

from experiments.speech_data import Speech, unstacked

CEPSTRA = 12
PENALTY = 1.0
"""The cost of a word, in distances of a frame. Chosen on voices of the training set."""


class Templates(NamedTuple):
    """All frames of all templates, one after another.

    Attributes:
        frames: Cepstra `(frames, CEPSTRA)`.
        first: The number of the first frame of each template.
        last: That of the last one.
        words: What each template says.
    """

    frames: np.ndarray
    first: np.ndarray
    last: np.ndarray
    words: list[str]


def cepstra(frames: np.ndarray) -> np.ndarray:
    """Log-mel frames as cepstra without the loudness, less their mean: voices and microphones differ in it."""
    found = dct(frames, norm="ortho")[:, 1 : CEPSTRA + 1]
    # The mean of frames with speech, by their loudness; silence would be most of a short recording.
    loud = frames.mean(-1) > frames.mean(-1).max() - 4
    return found - found[loud].mean(0)


def templates_of(speech: Speech, texts: list[str], speakers: list[str], most: int) -> Templates:
    """Templates from the recordings of one word.

    Args:
        speech: The training set.
        texts: What each recording says.
        speakers: Who says it.
        most: The most templates of a word; first one of each speaker.

    Returns:
        The templates; none where there is no recording of one word.
    """
    chosen: dict[str, list[int]] = {}
    heard: set[tuple[str, str]] = set()
    single = [row for row, text in enumerate(texts) if " " not in text]
    for again in (False, True):  # first one of each speaker, then others
        for row in single:
            rows = chosen.setdefault(texts[row], [])
            if len(rows) < most and row not in rows and (again or (texts[row], speakers[row]) not in heard):
                rows.append(row)
                heard.add((texts[row], speakers[row]))
    rows = [row for word in sorted(chosen) for row in chosen[word]]
    cut = [_speech_of(unstacked(speech.inputs[row, : speech.lengths[row]])) for row in rows]
    last = np.cumsum([len(frames) for frames in cut], dtype=int) - 1
    first = last + 1 - np.array([len(frames) for frames in cut], int)
    return Templates(np.concatenate([np.zeros((0, CEPSTRA)), *cut]), first, last, [texts[row] for row in rows])


def transcribe(templates: Templates, frames: np.ndarray) -> str:
    """The words of the nearest sequence of templates, for log-mel frames of an utterance."""
    utterance = _speech_of(frames)
    distances = np.sqrt(
        np.maximum(
            (utterance**2).sum(-1)[:, None] + (templates.frames**2).sum(-1) - 2 * utterance @ templates.frames.T, 0
        )
    )
    first, last = templates.first, templates.last
    total = np.full(len(templates.frames), np.inf)
    began = np.zeros(len(templates.frames), int)
    before, ends = 0.0, []
    for t, distance in enumerate(distances):
        # A path stays at a frame, comes from the one before it, or skips one.
        stayed, stayed_began = total, began
        for by in (1, 2):
            moved = np.concatenate([np.full(by, np.inf), stayed[:-by]])
            moved[np.minimum(first + by - 1, len(moved) - 1)] = moved[first] = np.inf  # not from another template
            better = moved < total
            total = np.where(better, moved, total)
            began = np.where(better, np.concatenate([np.zeros(by, int), stayed_began[:-by]]), began)
        enter = before + PENALTY
        begins = enter < total[first]
        total[first] = np.where(begins, enter, total[first])
        began[first] = np.where(begins, t, began[first])
        total = total + distance
        winner = int(np.argmin(total[last]))
        before = float(total[last[winner]])
        ends.append((winner, int(began[last[winner]])))
    words, t = [], len(ends) - 1
    while t >= 0:
        winner, start = ends[t]
        words.append(templates.words[winner])
        t = start - 1
    return " ".join(reversed(words))


def _speech_of(frames: np.ndarray) -> np.ndarray:
    """The cepstra from the first frame with speech to the last one."""
    loud = np.flatnonzero(frames.mean(-1) > frames.mean(-1).max() - 6)
    return cepstra(frames)[loud[0] : loud[-1] + 1]
