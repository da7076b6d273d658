"""Timing several sides of one piece of work fairly: warmed up, in one process, in turn, medians with their spread."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Work = Callable[[], None]
"""Does one unit of work and returns when it is done (`block_until_ready`)."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one unit of work: median and quartiles of the rounds; and of the first call, compilation included."""

    median: float
    lower: float
    upper: float
    first: float
    rounds: int


def in_turn(sides: Mapping[str, Work], *, rounds: int, units: int = 1) -> dict[str, Timing]:
    """Times the sides in turn, A B C A B C, so that a machine whose speed drifts treats them alike.

    Args:
      sides: what to call, by name; each call is `units` units of work.
      rounds: timed calls of each side, after one that compiles and one that warms up.
      units: units of work in a call.

    Returns:
      A timing for each side, per unit.
    """
    first = {name: _seconds(work) for name, work in sides.items()}
    for work in sides.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            seconds[name].append(_seconds(work) / units)
    return {name: _summary(seconds[name], first[name]) for name in sides}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned, for a terminal and for a README."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _summary(seconds: Sequence[float], first: float) -> Timing:
    lower, median, upper = np.percentile(seconds, [25, 50, 75])
    return Timing(float(median), float(lower), float(upper), first, len(seconds))
