"""Timings of sides that take turns: the order of the rounds, medians with quartiles, and ratios of sides."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from experiments.bench.case import Work
from experiments.bench.worker import seconds as seconds_of

T = TypeVar("T")

LEAST, MOST = 3, 15
"""The smallest and the largest number of rounds."""
SLOW = 10.0
"""A side that takes more than this multiple of the fastest side's time is timed once: the ratio is clear."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds that a side takes for a unit of work.

    Attributes:
        median: Median of the rounds.
        lower: First quartile of the rounds.
        upper: Third quartile of the rounds.
        compiling: Seconds that the first call takes longer than a later one, to trace, to compile and to touch memory.
        peak: Bytes of memory that a call needs at its peak; None if unknown.
        rounds: Seconds of each round, the first round first.
    """

    median: float
    lower: float
    upper: float
    compiling: float
    peak: int | None
    rounds: list[float]


def summary(rounds: Sequence[float], first: float = 0.0, units: int = 1, peak: int | None = None) -> Timing:
    """Summarises the rounds of a side.

    Args:
        rounds: Seconds of a call in each round.
        first: Seconds of the first call.
        units: Units of work in a call.
        peak: Bytes of memory that a call needs at its peak.

    Returns:
        The seconds of a unit.
    """
    lower, median, upper = (float(q) for q in np.percentile(rounds, [25, 50, 75]))
    return Timing(
        median / units, lower / units, upper / units, max(first - median, 0.0), peak, [r / units for r in rounds]
    )


def ratio(timing: Timing, other: Timing) -> float:
    """Divides the time of one side by that of another: the median of the rounds' ratios.

    The two calls of a round follow each other, so a change in the machine's speed affects both. Sides with different
    numbers of rounds are compared by their medians.
    """
    if len(timing.rounds) != len(other.rounds):
        return timing.median / other.median
    return float(np.median(np.divide(timing.rounds, other.rounds)))


def alternate(
    sides: Sequence[T], ends: float = 0.0, least: int = LEAST, most: int | None = None, longest: float = 0.0
) -> Iterator[Sequence[T]]:
    """Yields the order of the sides in each round: A B C, then C B A, and so on.

    Since the order alternates, no side always follows the same other side, whose threads may still spin.

    Args:
        sides: The sides.
        ends: Value of `time.perf_counter()` at which the last round has to be finished.
        least: The smallest number of rounds, even if they take longer.
        most: The largest number of rounds; None for no limit.
        longest: Seconds that a round may take. Longer rounds replace it.

    Yields:
        The sides in the order of the round.

    Example:
        >>> from experiments.bench.timing import alternate
        >>> ["".join(order) for order in alternate("ABC", least=3)]
        ['ABC', 'CBA', 'ABC']
    """
    for done in itertools.count() if most is None else range(most):
        began = time.perf_counter()
        if done >= least and began + longest > ends:
            return
        yield sides[:: -1 if done % 2 else 1]
        longest = max(longest, time.perf_counter() - began)


def in_turn(works: Mapping[str, Work], seconds: float, most: int | None = None) -> dict[str, list[float]]:
    """Times works of this process in turn.

    Args:
        works: The works by name. Each is called twice before the rounds.
        seconds: Seconds for the rounds. `LEAST` rounds may take longer.
        most: The largest number of rounds; None for no limit.

    Returns:
        The seconds of each round by name; for a `SLOW` work, those of the faster of its two first calls.

    Example:
        >>> from experiments.bench.timing import in_turn
        >>> rounds = in_turn({"a": lambda: None}, seconds=0.0)
        >>> len(rounds["a"])
        3
    """
    first = {name: seconds_of(work) for name, work in works.items()}
    early = {name: min(first[name], seconds_of(work)) for name, work in works.items()}
    fast = [name for name, taken in early.items() if taken <= SLOW * min(early.values())]
    rounds: dict[str, list[float]] = {name: [] for name in works}
    for order in alternate(fast, time.perf_counter() + seconds, most=most):
        for name in order:
            rounds[name].append(seconds_of(works[name]))
    return {name: taken or [early[name]] for name, taken in rounds.items()}
