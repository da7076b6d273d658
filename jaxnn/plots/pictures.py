"""Pictures in a grid: feature maps, filters, and predictions of a classifier."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.counts import check_count
from jaxnn.plots.classes import as_classes, as_names
from jaxnn.plots.figure import INK, WRONG, Path, new_figure, save


def images(
    pictures: ArrayLike | Sequence[ArrayLike],
    path: Path,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    title: str | None = None,
    side: float = 1.25,
) -> None:
    """Draws pictures or feature maps in a grid, each in its full range.

    Args:
        pictures: `(n, height, width)`, `(n, height, width, 1)` grey or `(n, height, width, 3)` colour; or a sequence
            of pictures of any sizes.
        path: The PNG to write.
        titles: A title for each picture.
        columns: Pictures per row.
        title: A title above all.
        side: Size of a picture in inches.

    Raises:
        ValueError: If shapes do not fit.
        ImportError: If matplotlib is absent.

    Example:
        >>> import numpy as np
        >>> from jaxnn import plots
        >>> plots.images(np.random.default_rng(0).normal(size=(3, 8, 8)), "maps.png", ["a", "b", "c"])
    """
    _grid(_pictures(pictures), path, titles, columns=columns, title=title, side=side)


def predictions(
    images: ArrayLike,
    labels: ArrayLike,
    predicted: ArrayLike,
    path: Path,
    class_names: Sequence[str] | None = None,
    *,
    columns: int = 8,
    title: str | None = None,
    most: int | None = None,
) -> None:
    """Draws pictures with their predicted classes; wrong ones in red, with the true class.

    Args:
        images: `(n, height, width, channels)` with 1 or 3 channels.
        labels: True classes, integers `(n,)`.
        predicted: Predicted classes, integers `(n,)`.
        path: The PNG to write.
        class_names: A name for each class; their numbers by default.
        columns: Pictures per row.
        title: The text above the pictures, for example their source. By default the numbers of correct and wrong ones.
        most: Largest number of pictures; correct and wrong ones alternate while there are wrong ones, and the title
            says so. All by default.

    Raises:
        ValueError: If shapes do not fit, or a class is negative or has no name.
        ImportError: If matplotlib is absent.

    Example:
        >>> import numpy as np
        >>> from jaxnn import plots
        >>> pictures = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), np.uint8)
        >>> plots.predictions(pictures, [0, 1], [0, 0], "predictions.png", ["cat", "dog"])
    """
    truth, guess = as_classes(labels, predicted)
    names = as_names(class_names, int(max(truth.max(), guess.max())) + 1)
    given: list[Any] = list(images)  # type: ignore[arg-type]
    if len(given) != len(truth):
        raise ValueError(f"images: expected one a label, {len(truth)}, got {len(given)}")
    if most is not None:
        wrong = np.flatnonzero(truth != guess)[: most // 2]
        right = np.flatnonzero(truth == guess)[: most - len(wrong)]
        chosen = np.concatenate([wrong, right])
        if title is None:
            title = (
                f"{len(right)} right and {len(wrong)} wrong, chosen from {len(truth):,} test pictures "
                f"(accuracy {100 * np.mean(truth == guess):.2f} %); wrong ones in red, with the true class"
            )
        given, truth, guess = [given[i] for i in chosen], truth[chosen], guess[chosen]
    shown = _pictures(given)
    wrong = truth != guess
    titles = [f"{names[g]}, is {names[t]}" if bad else names[g] for t, g, bad in zip(truth, guess, wrong, strict=True)]
    colours = [WRONG if bad else INK for bad in wrong]
    heading = f"{np.sum(~wrong)} right and {np.sum(wrong)} wrong; wrong ones in red, with the true class"
    _grid(shown, path, titles, columns=columns, title=heading if title is None else title, colours=colours)


def filters(kernel: ArrayLike, path: Path) -> None:
    """Draws the kernels of a convolution over pictures, usually the first layer.

    Kernels on three channels are drawn in colour: the weight of each channel is the brightness of that colour, and
    grey is zero. Others are drawn as the mean over their input channels, where red is positive and blue negative. All
    share one scale, drawn beside them, so strong kernels look strong.

    Args:
        kernel: `(height, width, in, out)`.
        path: The PNG to write.

    Raises:
        ValueError: If `kernel` does not have four axes.
        ImportError: If matplotlib is absent.

    Example:
        >>> import numpy as np
        >>> from jaxnn import plots
        >>> plots.filters(np.random.default_rng(0).normal(size=(3, 3, 1, 16)), "filters.png")
    """
    weights = np.asarray(kernel, np.float32)
    if weights.ndim != 4 or not weights.size:
        raise ValueError(f"kernel: expected (height, width, in, out), got shape {weights.shape}")
    weights = np.moveaxis(weights, -1, 0)
    height, width, channels = weights.shape[1:]
    if channels != 3:
        weights = weights.mean(-1)
    largest = float(np.abs(weights).max()) or 1.0
    title = f"{len(weights)} kernel{'s' * (len(weights) > 1)} of {height}×{width}"
    if channels == 3:
        title += " on red, green and blue: brightness is weight, grey is 0"
        weights, cmap = 0.5 + weights / (2 * largest), "gray"
    else:
        title += " on 1 channel" if channels == 1 else f" on {channels} channels: their mean"
        cmap = "RdBu_r"
    _grid(list(weights), path, None, columns=8, title=title, cmap=cmap, largest=largest)


def _grid(
    pictures: Sequence[np.ndarray],
    path: Path,
    titles: Sequence[str] | None,
    *,
    columns: int,
    title: str | None,
    colours: Sequence[str] | None = None,
    cmap: str = "gray",
    largest: float | None = None,
    side: float = 1.25,
) -> None:
    """Draws pictures, or weights from `-largest` to `largest` beside their scale."""
    n = len(pictures)
    if titles is not None and len(titles) != n:
        raise ValueError(f"titles: expected one per picture, {n}, got {len(titles)}")
    columns = min(check_count("columns", columns), n)
    rows = math.ceil(n / columns)
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    cell = side * min(3.0, max(1 / 3, tallest))
    width = max(2.5, side * columns) + (0 if largest is None else 0.9)
    lines = [] if title is None else textwrap.wrap(title, int(13 * width))
    height = rows * (cell + (0.25 if titles else 0)) + 0.2 * len(lines) + (0.08 if lines else 0)
    figure = new_figure(width, height)
    # All pictures in one pair of axes, in inches: a pair of axes for each takes ten times as long.
    axes = figure.add_subplot()
    axes.set_axis_off()
    look: dict[str, Any] = {} if largest is None else {"vmin": -largest, "vmax": largest}
    above = 0.25 if titles else 0.0
    shown = None
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        tall, wide = picture.shape[:2]
        inches = 0.94 * min(side / wide, cell / tall)  # of a pixel
        x, y = (column + 0.5) * side, row * (cell + above) + above + cell / 2
        left, top = x - inches * wide / 2, y - inches * tall / 2
        box = left, left + inches * wide, top + inches * tall, top
        shown = axes.imshow(picture, interpolation="nearest", extent=box, cmap=cmap, **look)
        if titles is not None:
            colour = colours[index] if colours else INK
            axes.text(x, top - 0.04, titles[index], ha="center", va="bottom", fontsize=8, color=colour)
    axes.set(xlim=(0, columns * side), ylim=(rows * (cell + above), 0))
    if largest is not None:
        bar = figure.colorbar(shown, ax=axes, shrink=0.9, aspect=10 * rows)
        bar.set_label("weight", fontsize=8)
        bar.outline.set_visible(False)
    if lines:
        figure.suptitle("\n".join(lines), fontsize=10)
    save(figure, path)


def _pictures(pictures: ArrayLike | Sequence[ArrayLike]) -> list[np.ndarray]:
    """Converts pictures for matplotlib: grey without a channel axis, colour in [0, 1] or uint8."""
    shown = [_picture(np.asarray(picture)) for picture in pictures]  # type: ignore[union-attr]
    if not shown:
        raise ValueError("pictures: expected at least one, got none")
    return shown


def _picture(picture: np.ndarray) -> np.ndarray:
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture = picture[..., 0]
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[-1] != 3) or not picture.size:
        raise ValueError(
            f"pictures: expected (height, width), or (height, width, channels) with 1 or 3 channels, "
            f"got shape {picture.shape}"
        )
    if picture.ndim == 3 and picture.dtype != np.uint8:
        picture = picture.astype(np.float32)
        low, high = picture.min(), picture.max()
        if low < 0 or high > 1:  # a normalised picture: shown in its own range
            picture = (picture - low) / max(high - low, 1e-12)
    return picture
