"""The baseline of the speech experiment: connected words by the nearest templates, aligned by dynamic time warping.

A template is a recording of one word by a speaker of the training set. The sequence of templates, each stretched in
time, with the least sum of distances between frames is found by dynamic programming over all frames of all templates
(Ney, The use of a one-stage dynamic programming algorithm for connected word recognition, IEEE TASSP 1984).
"""

from typing import NamedTuple

import numpy as np
from scipy.fft import dct
from scipy.spatial.distance import cdist

from experiments.data.sounds import Speech, unstacked

CEPSTRA = 12
PENALTY = 1.0
"""The cost of a word, in distances of a frame. Chosen on voices of the training set."""


class Templates(NamedTuple):
    """Cepstra `(templates, frames, CEPSTRA)`, their lengths in frames, and their words."""

    frames: np.ndarray
    lengths: np.ndarray
    words: list[str]


def cepstra(frames: np.ndarray) -> np.ndarray:
    """The cepstra of log-mel frames, from the first frame with speech to the last one.

    Loudness and mean are removed: they depend on voice and microphone.
    """
    loudness = frames.mean(-1)
    found = dct(frames, norm="ortho")[:, 1 : CEPSTRA + 1]
    found -= found[loudness > loudness.max() - 4].mean(0)  # silence would be most of a short recording
    speech = np.flatnonzero(loudness > loudness.max() - 6)
    return found[speech[0] : speech[-1] + 1]


def templates_of(speech: Speech, texts: list[str], speakers: list[str], most: int) -> Templates:
    """Chooses at most `most` templates per word among recordings of single words, first one per speaker."""
    said = list(zip(texts, speakers, strict=True))
    firsts = {each: row for row, each in reversed(list(enumerate(said)))}
    single = [row for row, text in enumerate(texts) if " " not in text]
    chosen: list[int] = []
    for word in sorted({texts[row] for row in single}):
        rows = [row for row in single if texts[row] == word]
        chosen += sorted(rows, key=lambda row: firsts[said[row]] != row)[:most]
    cut = [cepstra(unstacked(speech.inputs[row, : speech.lengths[row]])) for row in chosen]
    lengths = np.array([len(each) for each in cut], int)
    frames = np.zeros((len(cut), lengths.max(initial=0), CEPSTRA))
    for template, each in zip(frames, cut, strict=True):
        template[: len(each)] = each
    return Templates(frames, lengths, [texts[row] for row in chosen])


def transcribe(templates: Templates, frames: np.ndarray) -> str:
    """Returns the words of the sequence of templates that is nearest to the log-mel frames of an utterance."""
    distances = cdist(cepstra(frames), templates.frames.reshape(-1, CEPSTRA)).reshape(-1, *templates.frames.shape[:2])
    last = np.arange(len(templates.words)), templates.lengths - 1
    total, began = np.full(distances.shape[1:], np.inf), np.zeros(distances.shape[1:], int)
    before, ends = 0.0, []
    for t, distance in enumerate(distances):
        # A path stays at a frame, comes from the one before it, or skips one.
        totals, starts = (
            np.stack([np.pad(each, ((0, 0), (by, 0)), constant_values=none)[:, : each.shape[1]] for by in range(3)])
            for each, none in ((total, np.inf), (began, 0))
        )
        best = totals.argmin(0)[None]
        total, began = (np.take_along_axis(each, best, 0)[0] for each in (totals, starts))
        begins = before + PENALTY < total[:, 0]  # after the best end of another template
        total[begins, 0], began[begins, 0] = before + PENALTY, t
        total = total + distance
        winner = int(total[last].argmin())
        before = float(total[last][winner])
        ends.append((winner, int(began[last][winner])))
    words, t = [], len(ends) - 1
    while t >= 0:
        winner, start = ends[t]
        words.append(templates.words[winner])
        t = start - 1
    return " ".join(reversed(words))
