"""The attention weights of a decoder."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.plots.figure import Path, new_grid, save


def attention(
    weights: Sequence[ArrayLike],
    path: Path,
    read: Sequence[Sequence[str]],
    written: Sequence[Sequence[str]],
    *,
    titles: Sequence[str] | None = None,
    columns: int = 2,
) -> None:
    """Draws attention weights for pairs of sequences: of each written element, over the elements that were read.

    Args:
        weights: One array `(written, read)` per pair, from 0 to 1: `Decoder.attention_weights`, padding cut off.
        path: The PNG to write.
        read: The names of the elements that were read, for example characters.
        written: The names of the elements that were written.
        titles: The text below each pair.
        columns: Pairs per row.

    Raises:
        ValueError: If there is no pair, or an array does not fit its names.
        ImportError: If matplotlib is absent.

    Example:
        >>> import numpy as np
        >>> from jaxnn import plots
        >>> plots.attention([np.eye(3)], "attention.png", ["abc"], ["xyz"])
    """
    maps = [np.asarray(each, np.float32) for each in weights]
    shapes = [(len(to), len(of)) for to, of in zip(written, read, strict=True)]
    if not maps or [each.shape for each in maps] != shapes:
        got = [each.shape for each in maps]
        raise ValueError(f"weights: expected one (written, read) a pair, {shapes}, got {got}; cut padding off.")
    figure, places = new_grid(len(maps), columns, 5.0, 2.9)
    shown = None
    for number, (axes, each) in enumerate(zip(places, maps, strict=True)):
        shown = axes.imshow(each, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(each.shape[1]), ["␣" if c == " " else c for c in read[number]], fontsize=8)
        axes.set_yticks(range(each.shape[0]), list(written[number]), fontsize=8)
        axes.tick_params(length=0)
        if titles is not None:
            axes.set_xlabel(titles[number], fontsize=9)
    figure.colorbar(shown, ax=figure.axes, shrink=0.6, fraction=0.03, label="attention")
    figure.suptitle("where the decoder (rows) looks in what was read (columns)", fontsize=11)
    save(figure, path)
