"""What is measured: a case is one piece of work, and sides are who does it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

OURS = "jaxnn"


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to do a case's work.

    Attributes:
      name: as tables show it; what stands before the first comma is the library.
      builder: `.file:function`, the file in `experiments.bench.sides`. Called in a worker, with the case's options and
        the side's, it returns the work: a function without arguments that returns when all is done.
      worker: the process it runs in, as `workers.Worker` takes its name.
      options: of this side, besides the case's.
      environment: of a process that is started for this side alone, where the case is `fresh`.
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
    """One piece of work. The first side is the one that others are compared with.

    Attributes:
      title: what it is, in a few words.
      sides: who does it.
      options: what builders are called with; JSON.
      units: how many units of work one call does.
      flops: of a unit, the products only: two for each multiplication and addition.
      warm_up: whether the first two calls do not count: one that compiles, and one more. Builders of cases without it
        compile themselves, and every call counts.
      fresh: whether every call starts a process of its own, and its time is that from the start to the first result.
      weight: of the workload's time, relative to its other cases.
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
    """What a workload needs to know to say its cases.

    Attributes:
      scratch: a folder for what is thrown away at the end.
      quick: whether only a few cases are wished for.
      data_dir: a folder with the real CIFAR-10 pictures, or None for random ones of their shape.
    """

    scratch: Path
    quick: bool = False
    data_dir: Path | None = None
