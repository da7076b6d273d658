"""Measuring a case: every side is built, warmed up, and then timed in turn, A B C C B A, within a time allotted.

There and back, so that no side always follows the same other, whose threads may still spin.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import NamedTuple

from experiments.bench.case import Case, Side
from experiments.bench.timing import Timing, summary
from experiments.bench.workers import Refusal, Workers

GEMM = Side("GEMM", ".gemm:product")
GEMM_SIZE = 1024
LEAST, MOST = 3, 15
"""Rounds."""
ROUND = 0.02
"""Seconds that a side works in a round, at least: shorter calls are made several times."""

SLOW = 10.0
"""A side that takes so many times the fastest one's time is timed once: more rounds would tell no more."""

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a case: a timing of each side that could do it, and why others could not."""

    case: Case
    timings: dict[str, Timing]
    missing: dict[str, str]
    flops_per_second: float | None
    """Of a product of matrices, in the same rounds; None where there is no floor to compare with."""


def measure(case: Case, workers: Workers, seconds: float, say: Say = lambda _: None) -> Result:
    """Times all sides of a case in about so many seconds; at least `LEAST` rounds, also where that takes longer."""
    ends = time.perf_counter() + seconds
    if case.fresh:
        return _starts(case, workers, ends, say)
    sides = {side.name: side for side in (*case.sides, *([GEMM] if case.flops else []))}
    built: dict[str, _Built] = {}
    missing: dict[str, str] = {}
    for name, side in sides.items():
        say(name)
        try:
            built[name] = _build(case, side, workers)
        except Refusal as why:
            missing[name] = str(why)
    fastest = min((each.later for name, each in built.items() if name != GEMM.name), default=math.inf)
    turns = [name for name, each in built.items() if each.later <= SLOW * fastest or name == GEMM.name]
    # A slow side's one round is its second call; without warming up, what came first is everyone's first round.
    rounds = {name: [each.later] if name not in turns or not case.warm_up else [] for name, each in built.items()}
    longest = 0.0 if case.warm_up else sum(each.later for each in built.values())
    say("rounds")
    for done in range(MOST):
        began = time.perf_counter()
        if done >= (LEAST if case.warm_up else 0) and began + longest > ends:
            break
        for name in [name for name in turns[:: 1 if done % 2 == 0 else -1] if name not in missing]:
            calls = max(1, math.ceil(ROUND / max(built[name].later, 1e-6)))
            try:
                rounds[name].append(workers.ask(sides[name].worker, do="run", side=name, calls=calls)["seconds"])
            except Refusal as why:
                missing[name] = str(why)
        say(".")
        longest = max(longest, time.perf_counter() - began)
    timings = {
        name: summary(rounds[name], each.first, 1 if name == GEMM.name else case.units, each.peak)
        for name, each in built.items()
        if name not in missing
    }
    gemm = timings.pop(GEMM.name, None)
    return Result(case, timings, missing, 2 * GEMM_SIZE**3 / gemm.median if gemm else None)


class _Built(NamedTuple):
    """A side that is ready: seconds of its first call and of a later one, and the peak memory of that one."""

    first: float
    later: float
    peak: int | None


def _build(case: Case, side: Side, workers: Workers) -> _Built:
    """Builds a side and warms it up."""
    floor = side is GEMM
    options = {"size": GEMM_SIZE} if floor else {**case.options, **side.options}
    warm_up = case.warm_up or floor
    ran = workers.ask(
        side.worker, do="build", side=side.name, builder=side.builder, options=options, memory=not warm_up
    )
    first = ran["seconds"]
    if warm_up:
        ran = workers.ask(side.worker, do="run", side=side.name, calls=1, memory=True)
    return _Built(first, ran["seconds"], ran["peak"])


def _starts(case: Case, workers: Workers, ends: float, say: Say) -> Result:
    """Times the sides of a case whose every call starts a process: from its start to its first result."""
    rounds: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    warm_ups = int(case.warm_up)
    for done in range(warm_ups + LEAST):
        if done > warm_ups and time.perf_counter() > ends:
            break
        for side in case.sides:
            # The first round fills the system's caches of files, and those caches that a side is about.
            if side.name in missing:
                continue
            say(side.name)
            began = time.perf_counter()
            worker = workers.start(side.worker, side.environment)
            try:
                worker.ask(do="build", side=side.name, builder=side.builder, options={**case.options, **side.options})
                rounds.setdefault(side.name, []).append(time.perf_counter() - began)
            except Refusal as why:
                missing[side.name] = str(why)
            finally:
                worker.close()
    timings = {name: summary(taken[warm_ups:]) for name, taken in rounds.items() if name not in missing}
    return Result(case, timings, missing, None)
