"""A figure of its own for each picture, written whole or not at all."""

import os
from typing import Any

from jaxnn import extras
from jaxnn.train.runfolder import replacing

TRAIN, TEST, WRONG, INK = "#1f77b4", "#e8590c", "#d6201f", "#333333"
Path = str | os.PathLike[str]


def new_figure(width: float, height: float) -> Any:
    """A figure of its own, without pyplot's global state or any window."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"plots need matplotlib: {extras.install('experiments')}") from error
    figure = Figure(figsize=(width, height), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path) -> None:
    """Writes the figure as a PNG, beside first and then renamed."""
    with replacing(path) as beside:
        figure.savefig(beside, format="png")
