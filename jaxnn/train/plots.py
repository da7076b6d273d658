"""Pictures of a run, as PNG files. They need matplotlib: `pip install 'jaxnn[experiments]'`."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.train.runfolder import replacing

_TRAIN, _TEST, _WRONG, _INK = "#1f77b4", "#e8590c", "#d6201f", "#333333"
Path = str | os.PathLike[str]


def curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws loss and, where there is one, accuracy over the epochs, training and test.

    Args:
        history: From `fit`, or `RunFolder.metrics()`.
        path: The PNG to write.

    Raises:
        ValueError: If the history is empty.
        ImportError: If matplotlib is absent.

    Example:
        >>> import os
        >>> from jaxnn.train import plots
        >>> plots.curves([{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0}], "curves.png")
        >>> os.path.exists("curves.png")
        True
    """
    if not history:
        raise ValueError("history: expected at least one record, got none")
    names = [name for name in ("loss", "accuracy") if any(f"train_{name}" in record for record in history)]
    figure = _figure(5.2 * len(names), 3.8)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        scale = 100 if name == "accuracy" else 1
        for part, colour in (("train", _TRAIN), ("test", _TEST)):
            points = [(r["epoch"], r[f"{part}_{name}"]) for r in history if r.get(f"{part}_{name}") is not None]
            if points:
                epochs, values = np.array(points, float).T
                last = f"{values[-1] * scale:.2f} %" if name == "accuracy" else f"{values[-1]:.4g}"
                axes.plot(
                    epochs,
                    values * scale,
                    "o-",
                    color=colour,
                    markersize=3.5,
                    linewidth=1.6,
                    label=f"{part}, last {last}",
                )
        axes.set_xlabel("epoch")
        axes.set_ylabel("accuracy in %" if name == "accuracy" else name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False)
    _save(figure, path)


def confusion(labels: ArrayLike, predicted: ArrayLike, path: Path, class_names: Sequence[str] | None = None) -> None:
    """Draws the confusion matrix: rows are true classes, columns predicted ones, colours shares of a row.

    Args:
        labels: True classes, integers `(examples,)`.
        predicted: Predicted classes, integers `(examples,)`.
        path: The PNG to write.
        class_names: A name for each class; their numbers by default.

    Raises:
        ValueError: If shapes do not fit, or a class is negative or has no name.
        ImportError: If matplotlib is absent.

    Example:
        >>> from jaxnn.train import plots
        >>> plots.confusion([0, 1, 1], [0, 1, 0], "confusion.png", ["cat", "dog"])
    """
    truth, guess = _classes(labels, predicted)
    names = _names(class_names, int(max(truth.max(), guess.max())) + 1)
    k = len(names)
    matrix = np.zeros((k, k), int)
    np.add.at(matrix, (truth, guess), 1)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(12.0, max(4.0, 1.8 + 0.52 * k))
    figure = _figure(side + 0.8, side)
    axes = figure.add_subplot()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if k <= 20:
        for (row, column), number in np.ndenumerate(matrix):
            if number:
                colour = "white" if share[row, column] > 0.55 else _INK
                axes.text(column, row, f"{number}", ha="center", va="center", color=colour, fontsize=8)
    slanted = max(map(len, names)) > 2
    axes.set_xticks(range(k), names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(k), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"accuracy {100 * np.mean(truth == guess):.2f} % of {len(truth):,} examples", fontsize=11)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the true class")
    bar.outline.set_visible(False)
    _save(figure, path)


def images(
    pictures: ArrayLike,
    path: Path,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 8,
    title: str | None = None,
) -> None:
    """Draws pictures or feature maps in a grid, each in its full range.

    Args:
        pictures: `(n, height, width)`, `(n, height, width, 1)` grey or `(n, height, width, 3)` colour.
        path: The PNG to write.
        titles: One above each picture.
        columns: Pictures a row.
        title: One above all.

    Raises:
        ValueError: If shapes do not fit.
        ImportError: If matplotlib is absent.

    Example:
        >>> import numpy as np
        >>> from jaxnn.train import plots
        >>> plots.images(np.random.default_rng(0).normal(size=(3, 8, 8)), "maps.png", ["a", "b", "c"])
    """
    _grid(_pictures(pictures), path, titles, columns=columns, title=title)


def predictions(
    images: ArrayLike,
    labels: ArrayLike,
    predicted: ArrayLike,
    path: Path,
    class_names: Sequence[str] | None = None,
    *,
    columns: int = 8,
) -> None:
    """Draws pictures with what the model takes them for; wrong ones in red, with the true class.

    Args:
        images: `(n, height, width, channels)` with 1 or 3 channels; a few dozen make a good picture.
        labels: True classes, integers `(n,)`.
        predicted: Predicted classes, integers `(n,)`.
        path: The PNG to write.
        class_names: A name for each class; their numbers by default.
        columns: Pictures a row.

    Raises:
        ValueError: If shapes do not fit, or a class is negative or has no name.
        ImportError: If matplotlib is absent.

    Example:
        >>> import numpy as np
        >>> from jaxnn.train import plots
        >>> pictures = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), np.uint8)
        >>> plots.predictions(pictures, [0, 1], [0, 0], "predictions.png", ["cat", "dog"])
    """
    truth, guess = _classes(labels, predicted)
    names = _names(class_names, int(max(truth.max(), guess.max())) + 1)
    shown = _pictures(images)
    if len(shown) != len(truth):
        raise ValueError(f"images: expected one a label, {len(truth)}, got {len(shown)}")
    wrong = truth != guess
    titles = [f"{names[g]}, is {names[t]}" if bad else names[g] for t, g, bad in zip(truth, guess, wrong, strict=True)]
    colours = [_WRONG if bad else _INK for bad in wrong]
    right = len(wrong) - wrong.sum()
    heading = f"predicted classes: {right} of {len(wrong)} right; wrong ones in red, with the true class"
    _grid(shown, path, titles, columns=columns, title=heading, colours=colours)


def filters(kernel: ArrayLike, path: Path, *, columns: int = 8) -> None:
    """Draws the kernels of a convolution that looks at pictures: the first layer's.

    Kernels on three channels are drawn in colour, where grey is zero; others as the mean over their input
    channels, where red is positive and blue negative. All share one scale, so strong kernels look strong.

    Args:
        kernel: `(height, width, in, out)`.
        path: The PNG to write.
        columns: Kernels a row.

    Raises:
        ValueError: If `kernel` has not four axes.
        ImportError: If matplotlib is absent.

    Example:
        >>> import numpy as np
        >>> from jaxnn.train import plots
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
    title = f"{len(weights)} kernels of {height}×{width} on {channels} channel{'s' * (channels > 1)}"
    if channels == 3:
        _grid(0.5 + weights / (2 * largest), path, None, columns=columns, title=title)
    else:
        _grid(weights, path, None, columns=columns, title=title, signed=largest)


def _grid(
    pictures: np.ndarray,
    path: Path,
    titles: Sequence[str] | None,
    *,
    columns: int,
    title: str | None,
    colours: Sequence[str] | None = None,
    signed: float | None = None,
) -> None:
    n = len(pictures)
    if titles is not None and len(titles) != n:
        raise ValueError(f"titles: expected one a picture, {n}, got {len(titles)}")
    if columns < 1:
        raise ValueError(f"columns: expected a positive number, got {columns}")
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    cell = 1.25 * min(3.0, max(1 / 3, pictures.shape[1] / pictures.shape[2]))
    height = rows * (cell + (0.25 if titles else 0)) + (0.4 if title else 0)
    figure = _figure(max(2.5, 1.25 * columns), height)
    grid = figure.subplots(rows, columns, squeeze=False)
    scale = {"cmap": "gray"} if signed is None else {"cmap": "RdBu_r", "vmin": -signed, "vmax": signed}
    shown = None
    for index, axes in enumerate(grid.flat):
        axes.set_axis_off()
        if index < n:
            shown = axes.imshow(pictures[index], interpolation="nearest", **scale)
            if titles is not None:
                colour = colours[index] if colours else _INK
                axes.set_title(titles[index], fontsize=8, color=colour, pad=3)
    if signed is not None:
        figure.colorbar(shown, ax=grid, shrink=0.8, fraction=0.04, label="weight").outline.set_visible(False)
    if title is not None:
        figure.suptitle(title, fontsize=10)
    _save(figure, path)


def _pictures(pictures: ArrayLike) -> np.ndarray:
    """As matplotlib wants them: grey without a channel axis, colour in [0, 1] or uint8."""
    array = np.asarray(pictures)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] != 3) or not array.size:
        raise ValueError(
            f"pictures: expected (n, height, width), or (n, height, width, channels) with 1 or 3 channels, "
            f"got shape {array.shape}"
        )
    if array.ndim == 4 and array.dtype != np.uint8:
        array = array.astype(np.float32)
        low, high = array.min((1, 2, 3), keepdims=True), array.max((1, 2, 3), keepdims=True)
        if low.min() < 0 or high.max() > 1:  # normalised pictures: shown in their own range
            array = (array - low) / np.maximum(high - low, 1e-12)
    return array


def _classes(labels: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    truth, guess = np.asarray(labels), np.asarray(predicted)
    for name, array in (("labels", truth), ("predicted", guess)):
        if array.ndim != 1 or array.shape != truth.shape or not array.size or array.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: expected integer classes (examples,), as many as labels and at least one, "
                f"got {array.dtype} {array.shape}"
            )
        if array.min() < 0:
            raise ValueError(f"{name}: expected classes from 0, got {array.min()}")
    return truth.astype(int), guess.astype(int)


def _names(class_names: Sequence[str] | None, classes: int) -> list[str]:
    names = [str(i) for i in range(classes)] if class_names is None else list(class_names)
    if len(names) < classes:
        raise ValueError(f"class_names: expected at least {classes}, one for each class, got {len(names)}")
    return names


def _figure(width: float, height: float) -> Any:
    """A figure of its own, without pyplot's global state or any window."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'jaxnn[experiments]'") from error
    figure = Figure(figsize=(width, height), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as beside:
        figure.savefig(beside, format="png")
