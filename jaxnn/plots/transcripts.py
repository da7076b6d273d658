"""Recordings and what a network wrote of them: spectrograms above probabilities."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.plots.figure import INK, TRAIN, WRONG, Path, new_figure, plain, save


class Heard(NamedTuple):
    """A recording and the output of a network for it.

    Attributes:
        spectrogram: Log-mel frames `(frames, bands)`.
        probabilities: The probability of each label at each step, `(steps, labels)`, over the time of the spectrogram.
        text: The true text.
        transcript: The text that the network wrote.
    """

    spectrogram: ArrayLike
    probabilities: ArrayLike
    text: str
    transcript: str


def transcripts(
    heard: Sequence[Heard],
    path: Path,
    labels: Sequence[str],
    *,
    hop: float,
    blank: int = 0,
    edges: Sequence[float] | None = None,
) -> None:
    """Draws for each recording its spectrogram, and below it the probabilities of the labels over the same time.

    Each peak carries its label; the blank is a dotted line. A transcript that differs from the text is red.

    Args:
        heard: The recordings, one per column.
        path: The PNG to write.
        labels: The name of each label, the blank included.
        hop: Seconds from one frame of the spectrogram to the next.
        blank: The label that means none.
        edges: Lower and upper edge of the bands in hertz, to name on the axis; the bands are equal on the mel scale.

    Raises:
        ValueError: If there is no recording, or probabilities do not fit the labels.
        ImportError: If matplotlib is absent.

    Example:
        >>> import numpy as np
        >>> from jaxnn import plots
        >>> one = plots.Heard(np.zeros((9, 4)), np.eye(3)[[0, 1, 1, 0, 0, 2, 0, 0, 0]], "hi", "hi")
        >>> plots.transcripts([one], "transcripts.png", "-hi", hop=0.01)
    """
    shapes = [np.shape(one.probabilities) for one in heard]
    if not heard or any(len(shape) != 2 or shape[1] != len(labels) for shape in shapes):
        raise ValueError(
            f"heard: expected at least one recording, with probabilities (steps, {len(labels)}), got {shapes}; "
            "name every label, the blank too."
        )
    longest = [len(np.asarray(one.spectrogram)) for one in heard]
    figure = new_figure(1.2 + 5.0 * len(heard), 4.6)
    grid = figure.subplots(
        2, len(heard), squeeze=False, sharex="col", height_ratios=(1, 1), width_ratios=longest, sharey="row"
    )
    for column, one in enumerate(heard):
        above, below = grid[:, column]
        sound, p = np.asarray(one.spectrogram), np.asarray(one.probabilities)
        end = hop * len(sound)
        extent = (0.0, end, 0.0, float(sound.shape[1]))
        above.imshow(sound.T, origin="lower", aspect="auto", extent=extent, cmap="magma", interpolation="nearest")
        above.set_title(f"said: {one.text}", fontsize=10, loc="left", color=INK)
        times = end * (np.arange(len(p)) + 0.5) / len(p)
        for label, name in enumerate(labels):
            if label == blank:
                below.plot(times, p[:, label], color="#aaaaaa", linewidth=1, linestyle=":")
            elif p[:, label].max() > 0.05:
                (line,) = below.plot(times, p[:, label], linewidth=1.4)
                for peak in peaks(p[:, label]):
                    below.annotate(
                        "␣" if name == " " else name,
                        (times[peak], p[peak, label]),
                        xytext=(0, 2),
                        textcoords="offset points",
                        ha="center",
                        fontsize=10,
                        color=line.get_color(),
                    )
        right = one.text == one.transcript
        below.set_title(f"heard: {one.transcript}", fontsize=10, loc="left", color=TRAIN if right else WRONG)
        below.set_xlim(0, end)
        below.set_ylim(0, 1.15)
        below.set_xlabel("seconds")
        plain(below)
    if edges is not None:
        low, high = (2595 * np.log10(1 + edge / 700) for edge in edges)
        kilohertz = np.array([each for each in (0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16) if 1e3 * each <= edges[1]])
        bands = np.asarray(heard[0].spectrogram).shape[1]
        places = (2595 * np.log10(1 + 1e3 * kilohertz / 700) - low) / (high - low) * bands
        grid[0, 0].set_yticks(places, [f"{each:g}" for each in kilohertz])
    grid[0, 0].set_ylabel("kHz" if edges is not None else "band")
    grid[1, 0].set_ylabel("probability (dotted: none)")
    save(figure, path)


def peaks(p: np.ndarray) -> list[int]:
    """The frame of the highest probability in each run of frames above 0.5.

    Example:
        >>> import numpy as np
        >>> from jaxnn.plots.transcripts import peaks
        >>> peaks(np.array([0.0, 0.6, 0.9, 0.1, 0.7]))
        [2, 4]
    """
    ends = np.diff(np.concatenate([[0], p > 0.5, [0]]))
    runs = zip(np.flatnonzero(ends == 1), np.flatnonzero(ends == -1), strict=True)
    return [int(start + p[start:end].argmax()) for start, end in runs]
