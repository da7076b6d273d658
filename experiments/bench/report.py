"""Reports: a table for each case, a summary of all cases, and JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.bench.case import OURS
from experiments.bench.measure import Result
from experiments.bench.timing import ratio


class Row(NamedTuple):
    """A result, its workload and the number of threads."""

    workload: str
    threads: int
    result: Result


NOTES = """\
Ratios of times are medians over the rounds. "/ floor": the time divided by that of the work's matrix products at the
speed of a product of two 1024x1024 matrices, timed in the same rounds. "peak MiB": the resident memory that one call
adds at its peak. "compile s": the seconds that the first call takes longer than a later one."""


def case_table(result: Result) -> str:
    """Writes a table with a row for each side: ratios of times, milliseconds, and those columns that have values."""
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
    filled = [i for i in range(len(header)) if any(row[i] != "-" for row in rows)]
    return table([header[i] for i in filled], [[row[i] for i in filled] for row in rows])


def summary_table(rows: Sequence[Row]) -> str:
    """Writes a table with a row for each side of jaxnn, compared with the three best peers and with the floor."""
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
    """Lists the sides that are not jaxnn's, the fastest first."""
    return sorted(
        (name for name in result.timings if not name.startswith(OURS)), key=lambda n: result.timings[n].median
    )


def best_peer(result: Result) -> str | None:
    """Returns the fastest side that is not jaxnn's; None if there is none."""
    return next(iter(peers(result)), None)


def record(row: Row) -> dict[str, Any]:
    """Converts a result to JSON, in seconds and bytes."""
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
        "sides": {name: dataclasses.asdict(timing) for name, timing in row.result.timings.items()},
        "not_measured": row.result.missing,
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Writes a Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def _floor(result: Result) -> float | None:
    """Seconds of a unit if its matrix products took all of the time; None without a floor."""
    if result.case.flops is None or result.flops_per_second is None:
        return None
    return result.case.flops / result.flops_per_second


def _milliseconds(seconds: float) -> str:
    """Milliseconds with about three significant digits."""
    ms = seconds * 1e3
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}" if ms >= 1 else f"{ms:.3f}"
