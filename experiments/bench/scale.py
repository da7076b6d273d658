"""Reads the cost of a training step on 8, 64 and 512 devices from the compiled program of the CIFAR-10 network.

    python -m experiments.bench.scale                        # compiles the step, but does not run it
    python -m experiments.bench.scale --devices 8 64         # without 512, which takes longest
    python -m experiments.bench.scale --throughput           # also examples per second on 1, 2, 4 and 8 devices

A separate process compiles for each number of devices, which JAX simulates on one CPU. Each device has `--per-device`
examples. The table has the collectives of a step, the bytes that each device sends for them, and the memory of the
program on each device: once with a replicated state, once with a sharded state.

The bytes are those of a ring: for an all-reduce of n bytes over d devices, each device sends 2 n (d - 1) / d; for an
all-gather, a reduce-scatter or an all-to-all of n bytes in all, n (d - 1) / d. The program is XLA's for CPU. For GPU
and TPU, XLA may choose other collectives for the same shardings, for example a reduce-scatter instead of an all-reduce
and a slice.

The simulated devices share the cores of one CPU, so their throughput shows the cost of splitting a batch, not the gain
of more chips.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench.report import table
from experiments.bench.sides.jaxnn_networks import initial_state, training_step
from experiments.bench.sides.pictures import pictures
from experiments.bench.timing import alternate, ratio, summary
from experiments.bench.workers import usable_cores
from jaxnn import train
from jaxnn.cli import Count, check, expect, run, unused
from jaxnn.data import Examples
from jaxnn.inspect.memory import bytes_held

COUNTS = (1, 2, 4, 8)
"""Numbers of devices for `--throughput`."""
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}


@dataclasses.dataclass
class Options:
    """The devices to compile for, and the epoch to time."""

    devices: tuple[Count, ...] = (8, 64, 512)
    """Numbers of devices to compile for."""
    per_device: Count = 16
    """Examples on each device in a step; the batch grows with the number of devices."""
    throughput: bool = False
    """Also time an epoch on 1, 2, 4 and 8 simulated devices, with the same batch size."""
    examples: Count = 2_560
    """Pictures of that epoch; CIFAR-10 has 50,000 training pictures."""
    batch_size: Count = 128
    """Pictures per step of that epoch, on all devices together: a multiple of 8."""
    rounds: Count = 5
    """Timed epochs for each number of devices, after one that compiles."""
    child: str = ""
    """Only for the processes that this script starts."""


def main(options: Options) -> None:
    """Compiles for each number of devices in a separate process, and prints the tables."""
    if options.child:
        try:
            task = json.loads(options.child)
        except ValueError:
            raise ValueError(f"--child: expected no option, got {options.child}; only this script uses it.") from None
        if task["task"] == "time":
            time_epochs(task)
        else:
            print(json.dumps(compile_step(task)))
        return
    check(options)
    if not options.throughput:
        unused(options, "examples", "batch_size", "rounds", because="without --throughput")
    even = not options.throughput or options.batch_size % COUNTS[-1] == 0
    expect("batch_size", options.batch_size, even, f"a multiple of {COUNTS[-1]}")
    if options.devices:
        compiled(options)
    if options.throughput:
        throughput(options)


def compiled(options: Options) -> None:
    """Prints the costs of a step for each number of devices."""
    print(f"The CIFAR-10 network with Adam, one step, {options.per_device} examples on each device, float32.\n")
    rows = []
    for devices in options.devices:
        for sharded in (False, True):
            batch = options.per_device * devices
            step = compile_on({"task": "compile", "devices": devices, "sharded": sharded, "batch": batch})
            rows.append(
                [
                    str(devices),
                    "sharded" if sharded else "replicated",
                    ", ".join(f"{n} {name}" for name, n in step["collectives"].items()) or "none",
                    f"{step['sent'] / 2**20:.2f}",
                    f"{step['state'] / 2**20:.2f}",
                    f"{step['temporary'] / 2**20:.2f}",
                    f"{step['seconds']:.1f}",
                ]
            )
    header = ["devices", "state", "collectives", "MiB sent", "MiB of state", "MiB of temporaries", "compile s"]
    print(table(header, rows))
    print("\nMiB are those of one device in one step.")


def throughput(options: Options) -> None:
    """Times an epoch on simulated devices, for all numbers of devices in turn, and prints the table."""
    cores = len(usable_cores())
    share = "one core" if cores == 1 else f"{cores} cores"
    task = {"task": "time", "batch": options.batch_size, "examples": options.examples}
    seconds: dict[int, list[float]] = {devices: [] for devices in COUNTS}
    with contextlib.ExitStack() as stack:
        # One process works at a time; the others wait for input.
        workers = {devices: stack.enter_context(Timed({**task, "devices": devices})) for devices in COUNTS}
        for worker in workers.values():
            worker.epoch()  # compiles
        for order in alternate(COUNTS, least=options.rounds):
            for devices in order:
                seconds[devices].append(workers[devices].epoch())
    timings = {devices: summary(each) for devices, each in seconds.items()}
    rows = [
        [
            str(devices),
            f"{options.examples / each.median:,.0f}",
            f"{options.examples / each.upper:,.0f} to {options.examples / each.lower:,.0f}",
            f"{1 / ratio(each, timings[1]):.2f}",
        ]
        for devices, each in timings.items()
    ]
    print(
        f"\nAn epoch of {options.examples:,} pictures, a batch of {options.batch_size} split over devices simulated on "
        f"{share}; medians of {options.rounds} rounds:\n"
    )
    print(table(["devices", "examples a second", "quartiles", "against 1 device"], rows))
    print(
        f"\nThe devices share {share}, and one device already uses all of them, so more devices bring no speed. The "
        "differences beyond the noise come from devices that wait for each other, from the sums of gradients, and from "
        "the part of the batch that fits in cache."
    )


class Timed:
    """A process with simulated devices that trains an epoch for each request.

    Args:
        task: The number of devices, the batch size and the number of pictures.
    """

    def __init__(self, task: dict[str, Any]):
        self.process = subprocess.Popen(
            command(task), env=environment(task), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.devices = task["devices"]

    def __enter__(self) -> "Timed":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def epoch(self) -> float:
        """Trains an epoch and returns its seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("epoch\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ValueError(f"--throughput: expected seconds, got an error for {self.devices} devices; read it above.")
        return float(line)


def command(task: dict[str, Any]) -> list[str]:
    """Returns the command that starts a process for a task."""
    return [sys.executable, "-m", "experiments.bench.scale", "--child", json.dumps(task)]


def environment(task: dict[str, Any]) -> dict[str, str]:
    """Returns an environment in which JAX simulates the devices of the task."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={task['devices']}"
    # The process runs this copy of the code, from any working directory.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}


def compile_on(task: dict[str, Any]) -> dict[str, Any]:
    """Calls `compile_step` in a process that has the devices of the task."""
    done = subprocess.run(command(task), env=environment(task), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"--devices: expected a program, got an error for {task['devices']}:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def time_epochs(task: dict[str, Any]) -> None:
    """Trains an epoch for each line of input, and prints its seconds."""
    parallel = train.parallel(task["devices"])
    epoch: Any = train.make_epoch(training_step(), batch_size=task["batch"], parallel=parallel)
    placed = parallel.data(pictures("cifar10", task["examples"]))
    state = parallel.state(initial_state("cifar10"))
    for _ in sys.stdin:
        began = time.perf_counter()
        state, _ = jax.block_until_ready(epoch(state, placed))
        print(time.perf_counter() - began, flush=True)


def compile_step(task: dict[str, Any]) -> dict[str, Any]:
    """Compiles one step for all devices of this process, and returns its costs."""
    devices, batch = task["devices"], task["batch"]
    parallel = train.parallel(devices, shard=devices if task["sharded"] else 1)
    step = parallel.step(training_step())

    def shapes(tree: Any, shardings: Any) -> Any:
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)

    abstract = jax.eval_shape(lambda: initial_state("cifar10"))
    state = shapes(abstract, parallel.state_shardings(abstract))
    split = parallel.batch_sharding
    examples = Examples(
        jax.ShapeDtypeStruct((batch, 32, 32, 3), jnp.uint8, sharding=split),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=split),  # type: ignore[arg-type]
    )
    began = time.perf_counter()
    compiled = step.lower(state, examples).compile()  # type: ignore[attr-defined]
    compiling = time.perf_counter() - began
    memory: Any = compiled.memory_analysis()
    found = collectives(compiled.as_text())
    return {
        "collectives": dict(Counter(name for name, _ in found)),
        "sent": sum(sent(name, n, devices) for name, n in found),
        "state": bytes_held((state.params, state.opt_state)),
        "temporary": memory.temp_size_in_bytes,
        "seconds": compiling,
    }


def collectives(program: str) -> list[tuple[str, int]]:
    """Lists the collectives of a compiled program, and the bytes that each leaves on a device."""
    found = []
    for line in program.splitlines():
        match = re.search(rf" = (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line)
        if match:
            arrays = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            size = sum(BYTES.get(kind, 4) * math.prod(int(n) for n in shape.split(",") if n) for kind, shape in arrays)
            found.append((match[2], size))
    return found


def sent(name: str, size: int, devices: int) -> float:
    """Computes the bytes that a device sends for a collective that leaves `size` bytes on it, in a ring."""
    if name == "all-reduce":
        return 2 * size * (devices - 1) / devices
    if name == "reduce-scatter":
        return size * (devices - 1)  # `size` is the part that the device keeps
    if name == "collective-permute":
        return size
    return size * (devices - 1) / devices


if __name__ == "__main__":
    run(main, Options, __doc__)
