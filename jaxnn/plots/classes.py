"""The confusion matrix of a classifier."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.plots.figure import INK, Path, new_figure, save


def confusion(labels: ArrayLike, predicted: ArrayLike, path: Path, class_names: Sequence[str] | None = None) -> None:
    """Draws the confusion matrix: rows are true classes, columns predicted ones, colours fractions of a row.

    Args:
        labels: True classes, integers `(examples,)`.
        predicted: Predicted classes, integers `(examples,)`.
        path: The PNG to write.
        class_names: A name for each class; their numbers by default.

    Raises:
        ValueError: If shapes do not fit, or a class is negative or has no name.
        ImportError: If matplotlib is absent.

    Example:
        >>> from jaxnn import plots
        >>> plots.confusion([0, 1, 1], [0, 1, 0], "confusion.png", ["cat", "dog"])
    """
    truth, guess = as_classes(labels, predicted)
    names = as_names(class_names, int(max(truth.max(), guess.max())) + 1)
    k = len(names)
    matrix = np.zeros((k, k), int)
    np.add.at(matrix, (truth, guess), 1)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(12.0, max(4.0, 1.8 + 0.52 * k))
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if k <= 20:
        for (row, column), number in np.ndenumerate(matrix):
            if number:
                colour = "white" if share[row, column] > 0.55 else INK
                axes.text(column, row, f"{number}", ha="center", va="center", color=colour, fontsize=8)
    slanted, size = max(map(len, names)) > 2, min(10.0, 560 / k)
    axes.set_xticks(range(k), names, rotation=45 if slanted else 0, ha="right" if slanted else "center", fontsize=size)
    axes.set_yticks(range(k), names, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"accuracy {100 * np.mean(truth == guess):.2f} % of {len(truth):,} examples", fontsize=11)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the true class")
    bar.outline.set_visible(False)
    save(figure, path)


def as_classes(labels: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Reads true and predicted classes: integers from 0, one of each per example."""
    truth, guess = np.asarray(labels), np.asarray(predicted)
    for name, array in (("labels", truth), ("predicted", guess)):
        if array.ndim != 1 or array.shape != truth.shape or not array.size or array.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: expected integer classes (examples,), one per label and at least one, "
                f"got {array.dtype} {array.shape}"
            )
        if array.min() < 0:
            raise ValueError(f"{name}: expected classes from 0, got {array.min()}")
    return truth.astype(int), guess.astype(int)


def as_names(class_names: Sequence[str] | None, classes: int) -> list[str]:
    """Returns a name for each class."""
    names = [str(i) for i in range(classes)] if class_names is None else list(class_names)
    if len(names) < classes:
        raise ValueError(f"class_names: expected at least {classes}, one for each class, got {len(names)}")
    return names
