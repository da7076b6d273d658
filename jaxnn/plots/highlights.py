"""Texts whose words or letters are coloured by what they contribute."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.plots.figure import INK, WRONG, Path, new_figure, save

_INCH = 0.078
"""Width of a letter of 9 points, in inches."""
_LETTERS = 80
"""Letters of a line."""
_LINE = 0.22
"""Height of a line, in inches."""


def highlights(
    texts: Sequence[Sequence[str]],
    contributions: Sequence[ArrayLike],
    path: Path,
    *,
    names: Sequence[str],
    wrong: Sequence[bool] | None = None,
    title: str | None = None,
) -> None:
    """Draws texts line by line; the darker a piece, the more it contributes, relative to the maximum of its text.

    Words are separated by spaces.

    Args:
        texts: The pieces of each text, words or characters.
        contributions: A number for each piece of each text, `inspect.occlusion` or attention; below 0 counts as 0.
        path: The PNG to write.
        names: The name left of each text, for example its class.
        wrong: For each text whether its name is red; none by default.
        title: The title.

    Raises:
        ValueError: If there is no text, or the arguments do not fit each other.
        ImportError: If matplotlib is absent.

    Example:
        >>> from jaxnn import plots
        >>> plots.highlights([["a", "great", "film"]], [[0, 2, 1]], "words.png", names=["good"])
    """
    values = [np.maximum(np.asarray(each, np.float32), 0) for each in contributions]
    if not texts or [len(text) for text in texts] != [each.size for each in values] or len(names) != len(texts):
        raise ValueError(
            f"contributions: expected a number a piece and a name a text, for texts of {[len(t) for t in texts]} "
            f"pieces, got {[each.size for each in values]} and {len(names)} names"
        )
    gap = 0 if all(len(piece) == 1 for text in texts for piece in text) else 1
    lines = [_lines(text, gap) for text in texts]
    left = max(map(len, names)) + 2
    rows = sum(each[-1][1] + 1 for each in lines)
    used = max(
        max(column + len(piece) for (column, _), piece in zip(at, text, strict=True))
        for at, text in zip(lines, texts, strict=True)
    )
    figure = new_figure(_INCH * (left + max(used, 40) + 2), _LINE * (1.35 * len(texts) + rows - len(texts)) + 0.75)
    axes = figure.add_subplot()
    top = 0.0
    for number, (text, at, each) in enumerate(zip(texts, lines, values, strict=True)):
        colour = WRONG if wrong is not None and wrong[number] else INK
        axes.text(0, top + 0.5, names[number], color=colour, fontsize=9, va="center", family="DejaVu Sans Mono")
        shades = each / max(float(each.max()), 1e-12)
        for (column, line), piece, shade in zip(at, text, shades, strict=True):
            _piece(axes, left + column, top + line, piece, float(shade))
        top += at[-1][1] + 1.35
    axes.set_xlim(0, left + max(used, 40) + 2)
    axes.set_ylim(top, 0)
    axes.set_axis_off()
    if title is not None:
        axes.set_title(title, fontsize=10)
    save(figure, path)


def _lines(text: Sequence[str], gap: int) -> list[tuple[int, int]]:
    """Column and line of each piece."""
    places, column, line = [], 0, 0
    for piece in text:
        if column and column + len(piece) > _LETTERS:
            column, line = 0, line + 1
        places.append((column, line))
        column += len(piece) + gap
    return places


def _piece(axes: Any, x: float, y: float, piece: str, shade: float) -> None:
    from matplotlib.patches import Rectangle

    if shade > 0.02:
        # White to orange, as matplotlib's `Oranges`, by transparency.
        axes.add_patch(
            Rectangle((x, y + 0.05), len(piece), 0.9, facecolor="#f16913", alpha=0.9 * shade, edgecolor="none")
        )
    for place, character in enumerate(piece):
        shown = "␣" if character == " " and shade > 0.1 else character
        axes.text(
            x + place + 0.5, y + 0.5, shown, fontsize=9, ha="center", va="center", family="DejaVu Sans Mono", color=INK
        )
