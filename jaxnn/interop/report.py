"""The report of which weight went where."""

from typing import NamedTuple


class Row(NamedTuple):
    """Arrays of a model and the weights that they were made from.

    Attributes:
        theirs: Name, and dtype with shape, of each weight in the other framework.
        ours: Name, and dtype with shape, of each array of the model.
    """

    theirs: tuple[tuple[str, str], ...]
    ours: tuple[tuple[str, str], ...]


class Report(NamedTuple):
    """Which weight went where; `print` shows a table.

    Attributes:
        rows: One row per array, or per group of arrays that were made together.
        unused: Names of weights that no layer uses, for example counts of batches.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from jaxnn import interop, modules
        >>> weights = {"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)}
        >>> _, report = interop.from_torch(modules.Dense(3, 2, rngs=nnx.Rngs(0)), weights)
        >>> print(report)
        weight float32[2, 3]  ->  kernel float32[3, 2]
        bias float32[2]       ->  bias float32[2]
    """

    rows: tuple[Row, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        lines = [tuple(" + ".join(map(" ".join, side)) for side in row) for row in self.rows]
        width = max((len(theirs) for theirs, _ in lines), default=0)
        table = [f"{theirs:{width}}  ->  {ours}" for theirs, ours in lines]
        return "\n".join([*table, *(f"{name}  is not used" for name in self.unused)])
