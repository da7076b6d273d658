"""Compares jaxnn with PyTorch, Flax and plain `jax.lax` on an accelerator: prints tables, writes gpu.json.

    python -m experiments.bench.gpu                                     # 12 minutes
    python -m experiments.bench.gpu --only recurrent --minutes 30
    python -m experiments.bench.gpu --small                             # checks that every side works, on any device

- recurrent: layers by algorithm, forward and with all gradients, in float32 and bfloat16, with batches of 1 to 64, 256
  to 16,384 steps and 64 to 1024 units.
- conv: the layers of `experiments.bench`, with gradients, on ten inputs in a compiled loop.
- cifar10: ten epochs of the CIFAR-10 network as one program, on 50,000 random pictures, in each precision.

Without an accelerator the shapes are small: the run checks that every side works, and its times mean nothing. The sides
take turns in this one process. Times are medians; the first calls do not count. Each library multiplies float32 with
its default precision, which is TF32 on recent NVIDIA GPUs. The workloads are interleaved: a short run measures some of
each. If a side cannot serve or needs too much memory, a line gives the reason.
"""

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import jax

from experiments.bench import machine, report
from experiments.bench.case import Case, Side
from experiments.bench.measure import Result
from experiments.bench.report import Row
from experiments.bench.timing import LEAST, MOST, Timing, in_turn, summary
from experiments.bench.worker import builder
from experiments.bench.workers import usable_cores
from experiments.bench.workloads.layers import LAYERS
from jaxnn.cli import Positive, check, expect, folder_of, run
from jaxnn.files import replacing
from jaxnn.train.devices.shortage import shortage

T = TypeVar("T")
Name = Literal["recurrent", "conv", "cifar10"]

SHAPES = ((16, 1024, 256), (64, 256, 1024), (1, 16_384, 64), (64, 1024, 64), (1, 256, 1024), (8, 4096, 512))
"""Batch, time and hidden units; the number of features equals that of the units."""
LONG = ((1, 16_384, 64), (16, 1024, 256), (8, 4096, 512))
"""Shapes for layers that are linear in their state, which suit long sequences."""
SMALL = (
    ("lstm", "float32", True),
    ("gru", "bfloat16", False),
    ("mingru", "float32", False),
    ("minlstm", "bfloat16", False),
    ("lru", "float32", True),
)
"""Layer, dtype, and whether to compute gradients, for the small shapes."""
ALGORITHMS = {
    "lstm": ("scan", "fused", "cudnn", "persistent"),
    "gru": ("scan", "fused", "persistent"),
    "mingru": ("scan", "associative", "newton"),
    "minlstm": ("scan", "associative", "newton"),
    "lru": ("scan", "associative"),
}
OF_NVIDIA = {"cudnn": ("float32",), "persistent": ("bfloat16",)}
"""Algorithms that serve only on NVIDIA GPUs, and their dtypes; the small shapes leave them out."""
PRECISIONS = ("float32", "bf16", "float16")
"""Precisions in which the CIFAR-10 network is trained."""
REFUSALS = (RuntimeError, ValueError, ImportError, MemoryError)
"""Errors of a side that cannot serve; any other error is a fault of the benchmark and ends it."""
NOTES = """\
Ratios of times are medians over the rounds. Milliseconds are those of a call; for the network, of an epoch. "peak MiB":
the device memory of a program with its arguments and results; for PyTorch, the largest amount that it allocated."""


@dataclasses.dataclass
class Options:
    """The workloads, the time and the shapes."""

    only: tuple[Name, ...] = ("recurrent", "conv", "cifar10")
    """The workloads."""
    minutes: Positive = 12.0
    """Minutes for all of it. A case that begins in this time is finished; the others are left out."""
    small: bool = False
    """Use small shapes, as without an accelerator; then a side that cannot serve is an error."""
    run: Path = Path("runs/gpu")
    """The run folder; if it exists, a number is added to the name."""


class Step(NamedTuple):
    """A case to measure, and its workload."""

    workload: str
    case: Case


def main(options: Options) -> None:
    """Measures the cases one after another, and prints and saves the results after each."""
    check(options)
    expect("only", "none", len(options.only) > 0, "at least one workload")
    folder = folder_of(options)
    small = options.small or jax.default_backend() == "cpu"
    size = "small shapes" if small else f"about {options.minutes:g} minutes"
    print(f"{describe(jax.devices()[0])}; {size}\n\n{NOTES}", flush=True)
    rows: list[Row] = []
    for row in measured(plan(options.only, small), options.minutes * 60, LEAST if small else MOST):
        rows.append(row)
        print(report.case_table(row.result), flush=True)
        for side, seconds in per_example(row.result).items():
            print(f"{side}: {1 / seconds:,.0f} examples a second")
        for side, why in row.result.missing.items():
            print(f"not measured: {side}: {why}", flush=True)
        save(rows, small, folder / "gpu.json")
    print(f"\nthe results are in {folder / 'gpu.json'}")
    failed = [f"{row.result.case.title}: {side}: {why}" for row in rows for side, why in row.result.missing.items()]
    if failed := [line for line in failed if small and not line.endswith("is not installed")]:
        raise ValueError(f"--small: expected every side to serve, got {len(failed)} that failed: {failed[0]}")


def plan(only: Sequence[str], small: bool) -> list[Step]:
    """Lists all cases, with the workloads interleaved."""
    every = {"recurrent": _recurrent, "conv": _conv, "cifar10": _cifar10}
    return interleaved(*([Step(name, case) for case in every[name](small)] for name in dict.fromkeys(only)))


def interleaved(*lists: Sequence[T]) -> list[T]:
    """Interleaves lists: every part of the result has about the same share of each list, in the list's order.

    Example:
        >>> from experiments.bench.gpu import interleaved
        >>> "".join(interleaved("abcdef", "xyz"))
        'axbcydezf'
    """
    placed = [(i / len(each), element) for each in lists for i, element in enumerate(each)]
    return [element for _, element in sorted(placed, key=lambda pair: pair[0])]


def _recurrent(small: bool) -> list[Case]:
    """Gated layers with gradients, layers that are linear in their state, and forward passes, interleaved."""
    if small:
        return [_sequences(kind, (2, 16, 8), dtype, train, small) for kind, dtype, train in SMALL]
    types = ("float32", "bfloat16")
    gated = _mixed(SHAPES, types, ("lstm", "gru"), (True,))
    linear = _mixed(LONG, types[:1], ("mingru", "minlstm", "lru"), (True,))
    forward = _mixed(SHAPES[:3], types, ("lstm", "gru", "mingru"), (False,))
    chosen = interleaved(gated, linear, forward)
    return [_sequences(kind, shape, dtype, train, small) for shape, dtype, kind, train in chosen]


def _mixed(shapes: Sequence[Any], *choices: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All combinations: each shape once, with other choices than its neighbour, before any shape occurs again."""
    others = list(itertools.product(*choices))
    turns = itertools.product(range(len(others)), enumerate(shapes))
    return [(shape, *others[(turn + i) % len(others)]) for turn, (i, shape) in turns]


def _sequences(kind: str, shape: tuple[int, int, int], dtype: str, train: bool, small: bool) -> Case:
    batch, time, hidden = shape
    sides = [
        Side(f"jaxnn, {algorithm}", ".accelerator:jaxnn_recurrence", options={"algorithm": algorithm})
        for algorithm in ALGORITHMS[kind]
        if algorithm not in OF_NVIDIA or (not small and dtype in OF_NVIDIA[algorithm])
    ]
    if kind in ("lstm", "gru"):
        sides += [Side("PyTorch", ".accelerator:torch_recurrence"), Side("Flax NNX", ".accelerator:flax_recurrence")]
    title = f"{kind} {batch},{time},{hidden}, {dtype}, {'gradients' if train else 'forward'}"
    sizes = {"batch": batch, "time": time, "features": hidden, "hidden": hidden}
    return Case(title, tuple(sides), {"kind": kind, **sizes, "dtype": dtype, "train": train})


def _conv(small: bool) -> list[Case]:
    """The layers in both dtypes; each layer occurs once before any layer occurs again."""
    layers = {name: layer for name, layer in LAYERS.items() if layer.kind == "conv"}
    sides = tuple(
        Side(name, ".accelerator:convolution", options={"plain": name != "jaxnn"}) for name in ("jaxnn", "jax.lax")
    )
    calls, found = 2 if small else 10, []
    types = ("bfloat16",) if small else ("float32", "bfloat16")
    for (name, layer), dtype in _mixed(list(layers.items())[: 1 if small else None], types):
        x = (1, *(8 for _ in layer.x[1:-1]), layer.x[-1]) if small else layer.x
        options = {name: value for name, value in layer._asdict().items() if name not in ("kind", "first")}
        options |= {"x": x, "gradients": layer.gradients, "calls": calls, "dtype": dtype}
        title = f"conv of {x}, {dtype}, gradients" if small else f"{name}, {dtype}, gradients"
        found.append(Case(title, sides, options, units=calls))
    return found


def _cifar10(small: bool) -> list[Case]:
    """Batches of 128, as in the experiment, and of 1024; in every precision."""
    examples, epochs, batches = (64, 2, (32,)) if small else (50_000, 10, (128, 1024))
    return [
        Case(
            f"{epochs} epochs of {examples:,} pictures, batch {batch}",
            tuple(Side(f"jaxnn, {name}", ".accelerator:cifar10", options={"precision": name}) for name in PRECISIONS),
            {"batch": batch, "examples": examples, "epochs": epochs},
            units=epochs,
        )
        for batch in batches
    ]


def measured(steps: Sequence[Step], seconds: float, most: int = MOST) -> Iterator[Row]:
    """Measures the steps one after another and prints the progress.

    Args:
        steps: The steps.
        seconds: Seconds for all of it. Each step gets an equal share of the time that is left when it begins.
        most: The largest number of rounds.

    Yields:
        The result of each step.
    """
    start = time.perf_counter()
    for i, step in enumerate(steps):
        past = time.perf_counter() - start
        if past > seconds:
            print(f"\n{len(steps) - i} cases are left out: the time is up; --minutes gives more", flush=True)
            return
        print(f"\n[{i + 1}/{len(steps)}, {past:.0f} s] {step.workload}: {step.case.title}", flush=True)
        result = measure(step.case, (seconds - past) / (len(steps) - i), most)
        yield Row(step.workload, len(usable_cores()), result)


def measure(case: Case, seconds: float, most: int = MOST) -> Result:
    """Builds all sides of a case and times them in turn, in about `seconds` and at most `most` rounds."""
    ends = time.perf_counter() + seconds
    ready, missing = {}, {}
    for side in case.sides:
        build = builder(side.builder)
        try:
            ready[side.name] = build(**case.options, **side.options)
            ready[side.name].work()
        except REFUSALS as error:
            ready.pop(side.name, None)
            missing[side.name] = reason(error)
    timings: dict[str, Timing] = {}
    try:
        works = {name: each.work for name, each in ready.items()}
        for name, rounds in in_turn(works, ends - time.perf_counter(), most).items():
            timing = summary(rounds, units=case.units, peak=ready[name].peak)
            timings[name] = dataclasses.replace(timing, compiling=ready[name].compiling)
    except REFUSALS as error:  # each side works alone, but together they need too much memory
        missing |= dict.fromkeys(ready, reason(error))
    return Result(case, timings, missing, None)


def reason(error: BaseException) -> str:
    """Explains in a line why a side cannot serve."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    first = next(iter(str(error).strip().splitlines()), "")
    return shortage(error) or f"{type(error).__name__}: {first[:200]}"


def per_example(result: Result) -> dict[str, float]:
    """Seconds per example by side; empty if a unit of work is not a number of examples."""
    examples = result.case.options.get("examples")
    return {name: timing.median / examples for name, timing in result.timings.items()} if examples else {}


def describe(device: jax.Device) -> str:
    """Describes the device: the processor's name, or an accelerator and the version of its platform."""
    if device.platform == "cpu":
        return machine.processor()
    return f"{device.device_kind}, {' '.join(device.client.platform_version.split())}"


def save(rows: Sequence[Row], small: bool, path: Path) -> None:
    """Replaces the file by the results so far."""
    device = jax.devices()[0]
    memory: dict[str, Any] = device.memory_stats() or {}
    content = {
        "device": {
            "kind": device.device_kind,
            "description": describe(device),
            "memory_limit": memory.get("bytes_limit"),
            "memory_peak_so_far": memory.get("peak_bytes_in_use"),
        },
        "machine": {"processor": machine.processor(), "cores": len(usable_cores())},
        "versions": machine.versions(),
        "small": small,
        "results": [{**report.record(row), "seconds_per_example": per_example(row.result)} for row in rows],
    }
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    # JAX leaves memory for PyTorch, and compiles every program, since the time to compile is measured.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax.config.update("jax_enable_compilation_cache", False)
    run(main, Options, __doc__)
