r"""What a training step of the CIFAR-10 network costs on 8, 64 and 512 devices, read off the compiled program.

    python -m experiments.bench.scale                        # the simulation: nothing runs, it is compiled only
    python -m experiments.bench.scale --devices 8 64         # without the 512, which take longest
    python -m experiments.bench.scale --throughput           # and examples a second on 1, 2, 4, 8 devices of this host

Each number of devices is a process of its own, with so many devices made of one CPU. The table says, for a batch of
`--per-device` examples on each device, which collectives a step has, how many bytes each device sends for them, and how
much memory the program takes on each device; once with the state on every device and once spread over all.

Bytes sent are those of the usual ring: an all-reduce of n bytes over d devices sends 2 n (d - 1) / d from each, an
all-gather, a reduce-scatter or an all-to-all of n bytes in all sends n (d - 1) / d. The program is XLA's for CPU: for
GPU and TPU the same shardings can become other collectives (a reduce-scatter instead of an all-reduce and a slice).

Devices made of one CPU share its cores, so throughput on them says what splitting costs, not what more chips bring.
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

from experiments.bench.report import table
from experiments.bench.timing import ratio, summary

# Imports of JAX are in the functions: the number of devices is told to it before.
from jaxnn.cli import Count, check, expect, run, unused

COUNTS = (1, 2, 4, 8)
"""Numbers of devices that are timed."""
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}


@dataclasses.dataclass
class Options:
    """What to compile, and what to time."""

    devices: tuple[Count, ...] = (8, 64, 512)
    """Numbers of devices to compile for."""
    per_device: Count = 16
    """Examples on each device in a step: the batch grows with the devices."""
    throughput: bool = False
    """Time an epoch on 1, 2, 4 and 8 devices of this host too, at one and the same batch."""
    examples: Count = 2_560
    """Pictures of that epoch; CIFAR-10 has 50,000."""
    batch_size: Count = 128
    """Its batch, of all devices together: a multiple of 8."""
    rounds: Count = 5
    """Rounds, in each of which every number of devices trains one epoch, after one that compiles."""
    child: str = ""
    """For the processes that this script starts itself."""


def main(options: Options) -> None:
    """Compiles for each number of devices in a process of its own and prints the tables."""
    if options.child:
        try:
            what = json.loads(options.child)
        except ValueError:
            raise ValueError("--child: expected nothing: it is for the processes that this script starts") from None
        if what["task"] == "time":
            answer(what)
        else:
            print(json.dumps(child(what)))
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
    """Prints what each number of devices costs."""
    print(f"The CIFAR-10 network with Adam, one step, {options.per_device} examples on each device, float32.\n")
    rows = []
    for devices in options.devices:
        for spread in (False, True):
            batch = options.per_device * devices
            told = start({"task": "compile", "devices": devices, "spread": spread, "batch": batch})
            rows.append(
                [
                    str(devices),
                    "over all devices" if spread else "on every device",
                    ", ".join(f"{n} {name}" for name, n in told["collectives"].items()) or "none",
                    f"{told['sent'] / 2**20:.2f}",
                    f"{told['state'] / 2**20:.2f}",
                    f"{told['temporary'] / 2**20:.2f}",
                    f"{told['seconds']:.1f}",
                ]
            )
    header = ["devices", "state", "collectives", "MiB sent", "MiB of state", "MiB of temporaries", "compile s"]
    print(table(header, rows))
    print("\nMiB are those of one device, in one step.")


def throughput(options: Options) -> None:
    """Times the epoch on devices made of this host's CPU, all numbers of devices in turn, and says what bounds it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = "one core" if cores == 1 else f"{cores} cores"
    what = {"task": "time", "batch": options.batch_size, "examples": options.examples}
    seconds: dict[int, list[float]] = {devices: [] for devices in COUNTS}
    with contextlib.ExitStack() as stack:
        # All live at once, and one works at a time: the others wait for its answer without using the processor.
        workers = {devices: stack.enter_context(Timed({**what, "devices": devices})) for devices in COUNTS}
        for worker in workers.values():
            worker.epoch()  # compiles
        for _ in range(options.rounds):
            for devices, worker in workers.items():
                seconds[devices].append(worker.epoch())
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
        f"\nAn epoch of {options.examples:,} pictures, a batch of {options.batch_size} split over devices made of this "
        f"host's CPU; os.cpu_count() is {os.cpu_count()}, of which {share} can be used; medians of {options.rounds} "
        "rounds, taken in turn:\n"
    )
    print(table(["devices", "examples a second", "quartiles", "against 1 device"], rows))
    print(
        f"\nThe devices share {share}, which one device alone already uses: the arithmetic of the host bounds all, "
        "and more devices add none. Where they differ, beyond the noise of the machine, it is by waiting for "
        "one another, by summing gradients, and by how well each one's part of the batch stays in cache."
    )


class Timed:
    """A process with so many devices that trains an epoch whenever it is asked."""

    def __init__(self, what: dict[str, Any]):
        self.process = subprocess.Popen(
            command(what), env=environment(what), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.devices = what["devices"]

    def __enter__(self) -> "Timed":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def epoch(self) -> float:
        """Seconds of an epoch."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("epoch\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ValueError(f"the process for {self.devices} devices failed, as it says above")
        return float(line)


def command(what: dict[str, Any]) -> list[str]:
    """What starts a process for a task."""
    return [sys.executable, "-m", "experiments.bench.scale", "--child", json.dumps(what)]


def environment(what: dict[str, Any]) -> dict[str, str]:
    """An environment in which JAX has as many devices as the task says."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={what['devices']}"
    # This copy of the code, wherever it was started from.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}


def start(what: dict[str, Any]) -> dict[str, Any]:
    """Runs `child` in a process that has as many devices as it says."""
    done = subprocess.run(command(what), env=environment(what), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"the process for {what['devices']} devices failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def answer(what: dict[str, Any]) -> None:
    """Trains an epoch for each line of input, and prints its seconds."""
    import jax
    import optax
    from flax import nnx

    from experiments.bench.sides.pictures import pictures
    from jaxnn import models, train

    parallel = train.parallel(what["devices"])
    step = train.make_step(train.losses.classification(), preprocess=train.image_preprocess())
    epoch: Any = train.make_epoch(step, batch_size=what["batch"], parallel=parallel)
    placed = parallel.data(pictures("cifar10", what["examples"]))
    state = parallel.state(train.create_state(models.Cifar10Net(rngs=nnx.Rngs(0)), optax.adam(1e-3), jax.random.key(0)))
    for _ in sys.stdin:
        began = time.perf_counter()
        state, _ = jax.block_until_ready(epoch(state, placed))
        print(time.perf_counter() - began, flush=True)


def child(what: dict[str, Any]) -> dict[str, Any]:
    """Compiles one step for all devices of this process."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from jaxnn import models, train
    from jaxnn.data import Examples
    from jaxnn.inspect.memory import bytes_held

    devices, batch = what["devices"], what["batch"]
    parallel = train.parallel(devices, shard=devices if what.get("spread") else 1)
    step = parallel.step(train.make_step(train.losses.classification(), preprocess=train.image_preprocess()))

    def create() -> train.TrainState:
        return train.create_state(models.Cifar10Net(rngs=nnx.Rngs(0)), optax.adam(1e-3), jax.random.key(0))

    def shapes(tree: Any, shardings: Any) -> Any:
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)

    abstract = jax.eval_shape(create)
    state = shapes(abstract, parallel.state_shardings(abstract))
    split = parallel.batch_sharding
    pictures = Examples(
        jax.ShapeDtypeStruct((batch, 32, 32, 3), jnp.uint8, sharding=split),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=split),  # type: ignore[arg-type]
    )
    began = time.perf_counter()
    compiled = step.lower(state, pictures).compile()  # type: ignore[attr-defined]
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
    """The collectives of a compiled program and the bytes of what each gives a device."""
    found = []
    for line in program.splitlines():
        match = re.search(rf" = (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line)
        if match:
            arrays = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            size = sum(BYTES.get(kind, 4) * math.prod(int(n) for n in shape.split(",") if n) for kind, shape in arrays)
            found.append((match[2], size))
    return found


def sent(name: str, size: int, devices: int) -> float:
    """Bytes that a device sends for a collective that leaves it with `size` bytes, in a ring of all devices."""
    if name == "all-reduce":
        return 2 * size * (devices - 1) / devices
    if name == "reduce-scatter":
        return size * (devices - 1)  # of which it keeps one part
    if name == "collective-permute":
        return size
    return size * (devices - 1) / devices


if __name__ == "__main__":
    run(main, Options, __doc__)
