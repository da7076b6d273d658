"""The one table of how a recurrence can be computed, whatever its cell, and the one choice among them.

An algorithm is a function `(cell, task, options) -> (ys, state)` with the contract of `scan.scan`. It raises
`NotServedError` where it cannot serve; only "auto" chooses.
"""

from collections.abc import Callable
from typing import Any

import jax

from jaxnn.functional.recurrent import fused
from jaxnn.functional.recurrent.cell import Cell, NotServedError
from jaxnn.functional.recurrent.newton import Newton
from jaxnn.functional.recurrent.scan import scan
from jaxnn.functional.recurrent.task import Options, Task

Algorithm = Callable[[Cell, Task, Options], tuple[Any, Any]]


def auto(cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    """On CPU "fused" where it serves, "scan" for the rest; on other platforms "scan".

    The platform is that which the program is lowered for. Measured on one core of a server CPU, with all gradients, for
    1 to 128 sequences of 28 to 1000 steps and 64 to 512 units, "fused" was nowhere slower than "scan", so there is no
    rule by shape. Never "newton" or "quasi-newton": whether they converge depends on the weights (see `Newton`).
    """
    try:
        fused.check(cell, task)
    except NotServedError:
        return scan(cell, task, options)
    cpu, default = (lambda task, run=run: run(cell, task, options) for run in (fused.fused, scan))
    return jax.lax.platform_dependent(task, cpu=cpu, default=default)


ALGORITHMS: dict[str, Algorithm] = {
    "auto": auto,
    "scan": scan,
    "fused": fused.fused,
    "newton": Newton(),
    "quasi-newton": Newton(jacobian="diagonal"),
}


def choose(name: str | Newton) -> Algorithm:
    """The algorithm of that name, or with those settings; raises `ValueError` with the names that there are."""
    if isinstance(name, Newton):
        return name
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(map(repr, ALGORITHMS))}, got {name!r}")
    return ALGORITHMS[name]
