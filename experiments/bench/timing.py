"""What comes out of timing a side: medians with their spread, and ratios of sides that were timed in turn."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.bench.worker import seconds as seconds_of

LEAST = 3
"""Rounds."""
SLOW = 5.0
"""What takes so many times the fastest one's time is timed once: more rounds would tell no more."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of a unit of work.

    Attributes:
      median: of the rounds.
      lower: the first quartile.
      upper: the third quartile.
      compiling: seconds of the first call beyond those of a later one: tracing, compiling, first touches.
      peak: bytes of resident memory that a call adds at its peak to what the process held before it; None where the
        system does not tell.
      rounds: every round's seconds, in the order of time.
    """

    median: float
    lower: float
    upper: float
    compiling: float
    peak: int | None
    rounds: list[float]


def summary(rounds: Sequence[float], first: float = 0.0, units: int = 1, peak: int | None = None) -> Timing:
    """The timing of a side.

    Args:
      rounds: seconds of a call in each round.
      first: seconds of the first call.
      units: units of work in a call.
      peak: bytes.
    """
    lower, median, upper = (float(q) for q in np.percentile(rounds, [25, 50, 75]))
    return Timing(
        median / units, lower / units, upper / units, max(first - median, 0.0), peak, [r / units for r in rounds]
    )


def ratio(timing: Timing, other: Timing) -> float:
    """Time of one side in units of another's: the median of the rounds' ratios.

    The two calls of a round follow each other, so a machine whose speed drifts changes both alike. Sides that were not
    timed in the same rounds are compared by their medians.
    """
    if len(timing.rounds) != len(other.rounds):
        return timing.median / other.median
    return float(np.median(np.divide(timing.rounds, other.rounds)))


def in_turn(
    works: Mapping[str, Callable[[], object]], seconds: float, most: int | None = None
) -> dict[str, list[float]]:
    """Times works that share this process by turns, there and back, for about so many seconds.

    Args:
        works: The works, each a function that returns when all is done. They are called twice before the rounds.
        seconds: How long the rounds take, unless `LEAST` of them take longer.
        most: The largest number of rounds; None for no limit.

    Returns:
        The seconds of every round of each work; for one that is `SLOW`, those of the faster of its two first calls.

    Example:
        >>> from experiments.bench.timing import in_turn
        >>> turns = in_turn({"a": lambda: None}, seconds=0.0)
        >>> len(turns["a"])
        3
    """
    first = {name: seconds_of(work) for name, work in works.items()}
    early = {name: min(first[name], seconds_of(work)) for name, work in works.items()}
    turns = [name for name, taken in early.items() if taken <= SLOW * min(early.values())]
    rounds: dict[str, list[float]] = {name: [] for name in works}
    ends, done = time.perf_counter() + seconds, 0
    while done < LEAST or ((most is None or done < most) and time.perf_counter() < ends):
        for name in turns[:: 1 if done % 2 else -1]:
            rounds[name].append(seconds_of(works[name]))
        done += 1
    return {name: taken or [early[name]] for name, taken in rounds.items()}
