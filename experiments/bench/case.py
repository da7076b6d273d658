"""Cases and sides: a case is one piece of work, and each of its sides is one way to do it."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

OURS = "jaxnn"

Work = Callable[[], object]
"""Does the work of a case once, and returns when it is finished."""


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to do the work of a case.

    Attributes:
        name: Name in the tables; the part before the first comma is the library.
        builder: `.file:function` in `experiments.bench.sides`. The worker calls it with the options of the case and of
            the side, and it returns a `Work`.
        worker: The process that does the work, as `workers.Worker` names it.
        options: Options of this side, added to those of the case.
        environment: Environment variables of the process, if the case is `fresh`.
    """

    name: str
    builder: str
    worker: str = "jax"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def library(self) -> str:
        """The part of the name before the first comma."""
        return self.name.split(",")[0]


@dataclasses.dataclass(frozen=True)
class Case:
    """One piece of work, and the sides that do it. The others are compared with the first side.

    Attributes:
        title: The work in a few words.
        sides: The ways to do it.
        options: Arguments of the builders, as JSON can store them.
        units: Units of work in one call.
        flops: Floating-point operations of a unit, of the matrix products only; a multiplication and an addition count
            as two.
        warm_up: Whether the first two calls do not count: one that compiles, and one more. If False, the builders
            compile and every call counts.
        fresh: Whether each call starts a new process, and is timed from that start to the first result.
        weight: Share of the workload's time, relative to its other cases.
    """

    title: str
    sides: tuple[Side, ...]
    options: Mapping[str, Any]
    units: int = 1
    flops: float | None = None
    warm_up: bool = True
    fresh: bool = False
    weight: float = 1.0


class Settings(NamedTuple):
    """Settings from which a workload makes its cases.

    Attributes:
        scratch: A temporary folder.
        quick: Whether to make only a few cases.
        data_dir: A folder with the real CIFAR-10 pictures, or None for random pictures of the same shape.
    """

    scratch: Path
    quick: bool = False
    data_dir: Path | None = None
