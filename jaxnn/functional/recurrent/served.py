"""Checks that several algorithms of a cell's `fused` form share."""

from jaxnn.functional.recurrent.cell import Cell, NotServedError, first_leaf
from jaxnn.functional.recurrent.task import Task
from jaxnn.functional.sharding import sharded


def check_output(cell: Cell) -> None:
    """Raises `NotServedError` if the output is another than the state's first array."""
    if cell.output is not first_leaf:
        raise NotServedError("no other output than the state's first array (Cell.output)")


def check_uncut(task: Task) -> None:
    """Raises `NotServedError` if something ends between two steps: the sequence, or the derivative."""
    if task.masks.reset is not None:
        raise NotServedError("no resets")
    if task.masks.apart is not None:
        raise NotServedError("no truncate")


def check_unsharded(task: Task) -> None:
    """Raises `NotServedError` on an explicit mesh.

    Where shardings are part of types, merging axes, as of time and batch into the rows of one product, would need a new
    sharding.
    """
    if sharded(task):
        raise NotServedError("no way over the devices of an explicit mesh")
