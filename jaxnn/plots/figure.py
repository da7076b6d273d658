"""One figure per picture, written whole or not at all."""

import os
from typing import Any

from jaxnn import extras
from jaxnn.files import replacing

TRAIN, TEST, WRONG, INK = "#1f77b4", "#e8590c", "#d6201f", "#333333"
Path = str | os.PathLike[str]


def new_figure(width: float, height: float) -> Any:
    """Creates a figure without the global state of pyplot and without a window."""
    with extras.needed("jaxnn.plots: matplotlib", "experiments"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_grid(count: int, columns: int, width: float, height: float, above: float = 0.0) -> tuple[Any, list[Any]]:
    """Creates a figure of `count` axes in rows, each of this size in inches, with space `above` them."""
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows + above)
    places = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in places[count:]:
        axes.set_axis_off()
    return figure, places[:count]


def save(figure: Any, path: Path) -> None:
    """Writes the figure as a PNG, under another name first, then renames it."""
    with replacing(path) as beside:
        figure.canvas.print_png(beside)  # `savefig` lays out and draws everything twice


def plain(axes: Any) -> None:
    """Gives axes a faint grid and no frame above and to the right."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def over_epochs(axes: Any) -> None:
    """Labels the axis of epochs, which are whole numbers: a single one has one tick."""
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    plain(axes)


def words(metric: str) -> str:
    """Names a metric for an axis: `test_grad_norm` is "test gradient norm", accuracies are in percent.

    Example:
        >>> from jaxnn.plots.figure import words
        >>> words("test_accuracy"), words("train_grad_norm")
        ('test accuracy in %', 'training gradient norm')
    """
    name = metric.replace("_", " ").replace("grad norm", "gradient norm")
    name = "training " + name.removeprefix("train ") if name.startswith("train ") else name
    return f"{name} in %" if metric.endswith("accuracy") else name
