"""What people and programs read: tables of each case, a summary of all, and JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.bench.case import OURS
from experiments.bench.measure import Result
from experiments.bench.timing import Timing, ratio


class Row(NamedTuple):
    """A result and where it stands."""

    workload: str
    threads: int
    result: Result


NOTES = """\
Ratios of times are medians over the rounds. "/ floor": in units of the time that the work's products take at the speed
of a product of two 1024x1024 matrices, timed in the same rounds. "peak MiB": resident memory that one call adds at its
peak to what its process held before. "compile s": the first call beyond a later one."""


def case_table(result: Result) -> str:
    """A row a side: times in units of the first side's, then milliseconds, and what else was measured of any side."""
    timings = result.timings
    if not timings:
        return ""
    reference = next(iter(timings))
    peer, floor = best_peer(result), _floor(result)
    header = ["side", f"/ {reference}", "/ best peer", "/ floor", "median ms", "quartiles ms", "peak MiB", "compile s"]
    rows = [
        [
            name,
            f"{ratio(timing, timings[reference]):.2f}",
            "-" if peer is None else f"{ratio(timing, timings[peer]):.2f}",
            "-" if floor is None else f"{timing.median / floor:.2f}",
            _milliseconds(timing.median),
            f"{_milliseconds(timing.lower)} to {_milliseconds(timing.upper)}",
            "-" if timing.peak is None else f"{timing.peak / 2**20:.0f}",
            f"{timing.compiling:.1f}",
        ]
        for name, timing in timings.items()
    ]
    told = [i for i in range(len(header)) if any(row[i] != "-" for row in rows)]
    return table([header[i] for i in told], [[row[i] for i in told] for row in rows])


def summary_table(rows: Sequence[Row]) -> str:
    """A row for each case and side of ours: its time in units of the three best peers', and of the floor."""
    header = ["workload", "threads", "case", "side", "/ best peers", "/ floor", "median ms"]
    body = []
    for workload, threads, result in rows:
        timings, floor = result.timings, _floor(result)
        for name in (name for name in timings if name.startswith(OURS)):
            against = [f"{ratio(timings[name], timings[peer]):.2f} {peer}" for peer in peers(result)[:3]]
            above = "-" if floor is None else f"{timings[name].median / floor:.2f}"
            ms = _milliseconds(timings[name].median)
            body.append([workload, str(threads), result.case.title, name, "; ".join(against) or "-", above, ms])
    return table(header, body)


def peers(result: Result) -> list[str]:
    """The sides that are not ours, the fastest first."""
    return sorted(
        (name for name in result.timings if not name.startswith(OURS)), key=lambda n: result.timings[n].median
    )


def best_peer(result: Result) -> str | None:
    """The fastest side that is not ours; None where there is none."""
    return next(iter(peers(result)), None)


def record(row: Row) -> dict[str, Any]:
    """A result as JSON has it; seconds and bytes."""
    case = row.result.case
    return {
        "workload": row.workload,
        "threads": row.threads,
        "case": case.title,
        "options": dict(case.options),
        "flops": case.flops,
        "gemm_flops_per_second": row.result.flops_per_second,
        "floor": _floor(row.result),
        "best_peer": best_peer(row.result),
        "sides": {name: _timing(timing) for name, timing in row.result.timings.items()},
        "not_measured": row.result.missing,
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned, for a terminal and for a README."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def _floor(result: Result) -> float | None:
    """Seconds of a unit, were it products alone."""
    if result.case.flops is None or result.flops_per_second is None:
        return None
    return result.case.flops / result.flops_per_second


def _timing(timing: Timing) -> dict[str, Any]:
    return dataclasses.asdict(timing)


def _milliseconds(seconds: float) -> str:
    """Three digits that count."""
    ms = seconds * 1e3
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}" if ms >= 1 else f"{ms:.3f}"
