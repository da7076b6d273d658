"""What a training would cost, told without training: parameters, FLOPs, memory, and the time to compile."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn import inspect, train
from jaxnn.data import Dataset
from jaxnn.inspect import memory
from jaxnn.inspect.memory import Memory
from jaxnn.inspect.summary import aligned
from jaxnn.train.step import batching


def tell(
    create: Callable[[], train.TrainState],
    step: Callable[..., Any],
    data: Dataset,
    *,
    epochs: int,
    batch_size: int,
    chunk: int | None = None,
    parallel: train.devices.Parallel | None = None,
    resume: Path | None = None,
) -> None:
    """Prints it. What `train.fit` would run is compiled for shapes: nothing is put on a device.

    Args:
      create: makes the state before the first step.
      step: from `train.make_step`.
      data: what is trained and tested on.
      epochs: of the run.
      batch_size: examples a step.
      chunk: steps a program; an epoch without.
      parallel: the devices, None for the usual one.
      resume: the folder of the run that would go on.
    """
    state, learned, tested = _placed(jax.eval_shape(create), data, parallel)
    steps = batching.steps(len(data.train.labels), batch_size)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype), data.train)
    once = inspect.flops(step, jax.eval_shape(create), batch)
    program = train.make_epoch(step, batch_size=batch_size, chunk=chunk, parallel=parallel)
    cost = inspect.cost(program, state, learned)
    work = [
        ["a step", metric(once) + "FLOP", f"{batch_size:,} examples"],
        ["an epoch", metric(steps * once) + "FLOP", f"{steps:,} steps"],
        ["the run", metric(epochs * steps * once) + "FLOP", f"{epochs:,} epochs; tests are not counted"],
    ]
    what = "an epoch" if chunk is None else f"a program of {chunk:,} steps"
    cache = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    print(f"\n{inspect.summary(state.all_params)}")
    print("\nwork, forward and backward: matrix products and convolutions, 2 FLOP a multiply-add")
    print(aligned(work, "lrl"))
    print(f"\nmemory to train {what}{'' if parallel is None else f', of each of {parallel.devices} devices'}")
    print(aligned(memory_rows(state, learned, tested, cost.memory, _here(parallel)), "lrl"))
    print(f"\ncompiled in {cost.seconds:.1f} s" + (f", unless the cache {cache} had it" if cache else ""))
    if resume is not None:
        print(position(resume, steps, epochs))
    print("a dry run: nothing was trained, and no run folder made or touched")


def _placed(state: Any, data: Dataset, parallel: train.devices.Parallel | None) -> tuple[Any, Any, Any]:
    """State, training and test set as shapes, each where it would lie."""
    if parallel is None:
        return state, _shapes(data.train), _shapes(data.test)
    whole = NamedSharding(parallel.mesh, PartitionSpec())
    state = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        state,
        parallel.state_shardings(state),
    )
    return state, _shapes(data.train, whole), _shapes(data.test, whole)


def _shapes(tree: Any, sharding: NamedSharding | None = None) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _here(parallel: train.devices.Parallel | None) -> list[jax.Device]:
    """The devices of this process."""
    if parallel is None:
        return jax.devices()[:1]
    return [device for device in parallel.mesh.devices.flat if device.process_index == jax.process_index()]


def memory_rows(
    state: Any, learned: Any, tested: Any, program: Memory | None, devices: list[jax.Device]
) -> list[list[str]]:
    """What takes memory on a device, each with its size and a remark."""
    rows = [
        ["state", memory.readable(held(state)), "parameters, optimiser, random key"],
        ["training set", memory.readable(held(learned)), ""],
        ["test set", memory.readable(held(tested)), ""],
    ]
    if program is None:
        return [*rows, ["program", "unknown", "the backend does not tell"]]
    peak, free = program.peak + held(tested), memory.bytes_free(devices)
    limit = f"; {memory.readable(free)} are free" if free < memory.UNLIMITED else ""
    return [
        *rows,
        ["arguments", memory.readable(program.arguments), "of the program: state and training set"],
        [
            "outputs",
            memory.readable(program.outputs),
            f"{memory.readable(program.reused)} in the state's place",
        ],
        ["temporaries", memory.readable(program.temporaries), ""],
        ["at the peak", memory.readable(peak), f"the program and the test set{limit}"],
    ]


def held(tree: Any) -> int:
    """The bytes that the arrays, or shapes of arrays, take on one device."""

    def size(x: Any) -> int:
        shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
        return math.prod(shape) * int(x.dtype.itemsize)

    return sum(map(size, jax.tree.leaves(tree)))


def position(run: Path, steps: int, epochs: int) -> str:
    """Where a run would go on, a line for each network if it trains several.

    Checkpoints are named by their step; to look into them would touch them.
    """
    folder = run / "checkpoints"
    parts = sorted(
        path for path in folder.glob("*") if path.is_dir() and not _step(path) and any(map(_step, path.glob("*")))
    )
    return "\n".join(_goes_on(part, f"{run}, {part.name},", steps, epochs) for part in parts) or _goes_on(
        folder, str(run), steps, epochs
    )


def _goes_on(folder: Path, name: str, steps: int, epochs: int) -> str:
    saved = [step for path in folder.glob("*") if (step := _step(path))]
    if not saved:
        return f"{name} has no checkpoint: the run would start anew"
    epoch, inside = divmod(max(saved), steps)
    if epoch >= epochs:
        return f"{name} is at its end, after {epoch:,} epochs"
    rest = f" and {inside:,} steps" if inside else ""
    return f"{name} would go on after {epoch:,} of {epochs:,} epochs{rest}"


def _step(path: Path) -> int:
    return int(path.name) if path.name.isdigit() else 0


def metric(number: float) -> str:
    """A number in three digits and a unit's prefix: 3,700,359,168 is "3.7 G"."""
    power = 0
    while number >= 999.5 and power < 6:
        number, power = number / 1000, power + 1
    return f"{number:.3g} {['', 'k', 'M', 'G', 'T', 'P', 'E'][power]}"
