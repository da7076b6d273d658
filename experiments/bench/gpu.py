"""Measures jaxnn on an accelerator, beside PyTorch's cuDNN layers, Flax and plain `jax.lax`: tables, and gpu.json.

    python -m experiments.bench.gpu                                     # what fits into 12 minutes
    python -m experiments.bench.gpu --only recurrent --minutes 30
    python -m experiments.bench.gpu --small                             # a rehearsal: all of it, small, on any device

- recurrent: layers by algorithm, forward and with all gradients, in float32 and bfloat16. The shapes are a sparse grid
  over batches of 1 to 64, 256 to 16,384 steps and 64 to 1024 units.
- conv: the layers of `experiments.bench`, with gradients, ten inputs in a compiled loop.
- cifar10: ten epochs of the CIFAR-10 network as one program, on 50,000 random pictures.

Where JAX finds no accelerator, shapes are small: such a run shows that everything works, and its times say nothing.
Sides take turns in this one process; times are medians after calls that do not count. Products of float32 have the
precision that each library has by default, which on recent NVIDIA GPUs is TF32 for all of them. Workloads are
interleaved, so that all are measured in part where the time is short. A side that the memory does not hold, or that
cannot serve, is a line that says so.
"""

import dataclasses
import importlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from experiments.bench import machine, report
from experiments.bench.case import Case, Side
from experiments.bench.measure import Result
from experiments.bench.report import Row
from experiments.bench.timing import Timing, in_turn, summary
from experiments.bench.workers import usable_cores
from experiments.bench.workloads.layers import LAYERS
from experiments.checks import expect
from experiments.command import run
from experiments.spread import run_folder
from jaxnn import train
from jaxnn.train.shortage import shortage

Name = Literal["recurrent", "conv", "cifar10"]

SHAPES = ((16, 1024, 256), (64, 256, 1024), (1, 16_384, 64), (64, 1024, 64), (1, 256, 1024), (8, 4096, 512))
"""Batch, time, and features, of which there are as many as hidden units."""
LONG = ((1, 16_384, 64), (16, 1024, 256), (8, 4096, 512))
"""Those of layers that are linear in their state, which are made for long sequences."""
SMALL = (
    ("lstm", "float32", True),
    ("gru", "bfloat16", True),
    ("mingru", "float32", True),
    ("minlstm", "bfloat16", False),
    ("lru", "float32", True),
)
"""Layer, type, and whether with gradients, of the small shapes."""
ALGORITHMS = {
    "lstm": ("scan", "fused"),
    "gru": ("scan", "fused"),
    "mingru": ("scan", "associative", "newton"),
    "minlstm": ("scan", "associative", "newton"),
    "lru": ("scan", "associative"),
}
MOST = 15
"""Rounds."""
REFUSALS = (RuntimeError, ValueError, ImportError, MemoryError)
"""What a side raises that cannot serve; any other error is a fault of the benchmark, and ends it."""
NOTES = """\
Ratios of times are medians over the rounds. Milliseconds are those of a call, of the network those of an epoch. "peak
MiB": the device memory that a program takes with its arguments and results."""


@dataclasses.dataclass
class Options:
    """What to measure."""

    only: tuple[Name, ...] = ("recurrent", "conv", "cifar10")
    """Workloads."""
    minutes: float = 12.0
    """How long it may take. A case that has begun is finished; those that would begin later are left out."""
    small: bool = False
    """Small shapes, as wherever there is no accelerator; a side that cannot serve is an error then."""
    run: Path = Path("runs/gpu")
    """The run folder; a number is added where it exists, nothing is overwritten."""


class Step(NamedTuple):
    """A case and its workload."""

    workload: str
    case: Case


def main(options: Options) -> None:
    """Measures every case in turn, prints its table, and saves what there is after each."""
    expect("minutes", options.minutes, 0 < options.minutes < float("inf"), "a finite positive number")
    expect("only", "none", len(options.only) > 0, "at least one workload")
    folder = run_folder(options.run, dataclasses.asdict(options))
    small = options.small or jax.default_backend() == "cpu"
    size = "small shapes" if small else f"about {options.minutes:g} minutes"
    print(f"{describe(jax.devices()[0])}; {size}\n\n{NOTES}", flush=True)
    rows: list[Row] = []
    for row in measured(plan(options.only, small), options.minutes * 60):
        rows.append(row)
        print(report.case_table(row.result), flush=True)
        for side, seconds in per_example(row.result).items():
            print(f"{side}: {1 / seconds:,.0f} examples a second")
        for side, why in row.result.missing.items():
            print(f"not measured: {side}: {why}", flush=True)
        save(rows, small, folder / "gpu.json")
    print(f"\nnumbers are in {folder / 'gpu.json'}")
    failed = [f"{row.result.case.title}: {side}: {why}" for row in rows for side, why in row.result.missing.items()]
    if failed := [line for line in failed if small and not line.endswith("is not installed")]:
        raise ValueError(f"of the small shapes all must be measured, but {len(failed)} failed; {failed[0]}")


def plan(only: Sequence[str], small: bool) -> list[Step]:
    """All cases, interleaved: a share of the list has about that share of each workload."""
    every = {"recurrent": _recurrent, "conv": _conv, "cifar10": _cifar10}
    placed = []
    for name in dict.fromkeys(only):
        cases = every[name](small)
        placed += [((i + 0.5) / len(cases), Step(name, case)) for i, case in enumerate(cases)]
    return [step for _, step in sorted(placed, key=lambda each: each[0])]


def _recurrent(small: bool) -> list[Case]:
    """Those with gradients first, which say most."""
    if small:
        return [_sequences(kind, (2, 16, 8), dtype, train) for kind, dtype, train in SMALL]
    types = ("float32", "bfloat16")
    gated = itertools.product(("lstm", "gru"), SHAPES, types, (True,))
    linear = itertools.product(("mingru", "minlstm", "lru"), LONG, types[:1], (True,))
    forward = itertools.product(("lstm", "gru", "mingru"), SHAPES[:3], types, (False,))
    return [_sequences(*each) for each in (*gated, *linear, *forward)]


def _sequences(kind: str, shape: tuple[int, int, int], dtype: str, train: bool) -> Case:
    batch, time, hidden = shape
    sides = [
        Side(f"jaxnn, {algorithm}", ".accelerator:jaxnn_recurrence", options={"algorithm": algorithm})
        for algorithm in ALGORITHMS[kind]
    ]
    if kind in ("lstm", "gru"):
        sides += [Side("PyTorch", ".accelerator:torch_recurrence"), Side("Flax NNX", ".accelerator:flax_recurrence")]
    title = f"{kind} {batch},{time},{hidden}, {dtype}, {'gradients' if train else 'forward'}"
    sizes = {"batch": batch, "time": time, "features": hidden, "hidden": hidden}
    return Case(title, tuple(sides), {"kind": kind, **sizes, "dtype": dtype, "train": train})


def _conv(small: bool) -> list[Case]:
    """The layers in both types."""
    layers = {name: layer for name, layer in LAYERS.items() if layer.kind == "conv"}
    sides = tuple(
        Side(name, ".accelerator:convolution", options={"plain": name != "jaxnn"}) for name in ("jaxnn", "jax.lax")
    )
    calls, found = 2 if small else 10, []
    for name, layer in list(layers.items())[: 1 if small else None]:
        x = (1, *(8 for _ in layer.x[1:-1]), layer.x[-1]) if small else layer.x
        for dtype in ("bfloat16",) if small else ("float32", "bfloat16"):
            options = {
                "x": x,
                "window": layer.window,
                "stride": layer.stride,
                "padding": layer.padding,
                "groups": layer.groups,
                "gradients": layer.gradients,
                "calls": calls,
                "dtype": dtype,
            }
            title = f"{name}, {dtype}, gradients" if not small else f"conv of {x}, {dtype}, gradients"
            found.append(Case(title, sides, options, units=calls))
    return found


def _cifar10(small: bool) -> list[Case]:
    """Batches of 128, as the experiment has, and of 1024."""
    examples, epochs, batches = (64, 2, (32,)) if small else (50_000, 10, (128, 1024))
    return [
        Case(
            f"{epochs} epochs of {examples:,} pictures, batch {batch}",
            (Side("jaxnn", ".accelerator:cifar10"),),
            {"batch": batch, "examples": examples, "epochs": epochs},
            units=epochs,
        )
        for batch in batches
    ]


def measured(steps: Sequence[Step], seconds: float) -> Iterator[Row]:
    """Measures case after case and says so; each gets an equal share of the time that is left when its turn comes."""
    start = time.perf_counter()
    for i, step in enumerate(steps):
        past = time.perf_counter() - start
        if past > seconds:
            print(f"\n{len(steps) - i} cases are left out: the time is up; --minutes gives more", flush=True)
            return
        print(f"\n[{i + 1}/{len(steps)}, {past:.0f} s] {step.workload}: {step.case.title}", flush=True)
        yield Row(step.workload, len(usable_cores()), measure(step.case, (seconds - past) / (len(steps) - i)))


def measure(case: Case, seconds: float) -> Result:
    """Makes all sides of a case ready and times them in turn, in about so many seconds."""
    ends = time.perf_counter() + seconds
    ready, missing = {}, {}
    for side in case.sides:
        file, function = side.builder.split(":")
        build = getattr(importlib.import_module(file, "experiments.bench.sides"), function)
        try:
            ready[side.name] = build(**case.options, **side.options)
            ready[side.name].work()
        except REFUSALS as error:
            ready.pop(side.name, None)
            missing[side.name] = reason(error)
    timings: dict[str, Timing] = {}
    try:
        works = {name: each.work for name, each in ready.items()}
        for name, rounds in in_turn(works, ends - time.perf_counter(), MOST).items():
            timing = summary(rounds, units=case.units, peak=ready[name].peak)
            timings[name] = dataclasses.replace(timing, compiling=ready[name].compiling)
    except REFUSALS as error:  # one side alone was possible, all beside each other are not
        missing |= dict.fromkeys(ready, reason(error))
    return Result(case, timings, missing, None)


def reason(error: BaseException) -> str:
    """Why a side could not be measured, in a line."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    first = next(iter(str(error).strip().splitlines()), "")
    return shortage(error) or f"{type(error).__name__}: {first[:200]}"


def per_example(result: Result) -> dict[str, float]:
    """Seconds of an example by side, where a unit of work is a number of examples."""
    examples = result.case.options.get("examples")
    return {name: timing.median / examples for name, timing in result.timings.items()} if examples else {}


def describe(device: jax.Device) -> str:
    """The device, and its platform's version where that is another than the host's."""
    if device.platform == "cpu":
        return machine.processor()
    return f"{device.device_kind}, {' '.join(device.client.platform_version.split())}"


def save(rows: Sequence[Row], small: bool, path: Path) -> None:
    """Writes what was measured so far, whole or not at all."""
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
    with train.runfolder.replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    # JAX and PyTorch share the device's memory, and no compilation is skipped because an earlier run kept its program.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax.config.update("jax_enable_compilation_cache", False)
    run(main, Options, __doc__)
