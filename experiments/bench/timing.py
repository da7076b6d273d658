"""What comes out of timing a side: medians with their spread, and ratios of sides that were timed in turn."""

import dataclasses
from collections.abc import Sequence

import numpy as np


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
