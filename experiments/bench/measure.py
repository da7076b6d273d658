"""Measuring a case: every side is built, warmed up, and then timed in turn, A B C A B C, within a time allotted."""

import dataclasses
import math
import time
from collections.abc import Callable

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
    first: dict[str, float] = {}
    again: dict[str, float] = {}
    peaks: dict[str, int | None] = {}
    missing: dict[str, str] = {}
    sides = {side.name: side for side in (*case.sides, *([GEMM] if case.flops else []))}
    for name, side in sides.items():
        say(name)
        options = {"size": GEMM_SIZE} if side is GEMM else {**case.options, **side.options}
        try:
            built = workers.ask(side.worker, do="build", side=name, builder=side.builder, options=options)
            first[name] = built["seconds"]
            if case.warm_up:
                ran = workers.ask(side.worker, do="run", side=name, calls=1, memory=True)
                again[name], peaks[name] = ran["seconds"], ran["peak"]
        except Refusal as why:
            missing[name] = str(why)
    names = [name for name in sides if name not in missing]
    calls = {name: max(1, math.ceil(ROUND / max(again.get(name, ROUND), 1e-6))) for name in names}
    fastest = min((again[side.name] for side in case.sides if side.name in again), default=math.inf)
    rounds = {name: [again[name]] if again.get(name, 0.0) > SLOW * fastest else [] for name in names}
    turns = [name for name in names if not rounds[name]]
    say("rounds")
    longest = 0.0
    for done in range(MOST):
        began = time.perf_counter()
        if done >= LEAST - 2 * (not case.warm_up) and began + longest > ends:
            break
        for name in turns:
            if name in missing:
                continue
            try:
                answer = workers.ask(
                    sides[name].worker, do="run", side=name, calls=calls[name], memory=name not in peaks
                )
                rounds[name].append(answer["seconds"])
                peaks.setdefault(name, answer.get("peak"))
            except Refusal as why:
                missing[name] = str(why)
        say(".")
        longest = max(longest, time.perf_counter() - began)
    timings = {
        name: summary(rounds[name], first[name], 1 if name == GEMM.name else case.units, peaks[name])
        for name in names
        if name not in missing
    }
    gemm = timings.pop(GEMM.name, None)
    return Result(case, timings, missing, 2 * GEMM_SIZE**3 / gemm.median if gemm else None)


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
