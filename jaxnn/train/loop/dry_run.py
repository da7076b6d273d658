"""Costs of a training before it starts: parameters, FLOPs, memory, and the time to compile."""

import os
from pathlib import Path
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnn import inspect
from jaxnn.data.stream import Stream
from jaxnn.inspect import memory
from jaxnn.inspect.memory import Memory, readable
from jaxnn.inspect.summary import aligned
from jaxnn.train.checkpoint.folder import saved_steps
from jaxnn.train.devices.sharding import Parallel
from jaxnn.train.loop.computed import Computed
from jaxnn.train.loop.epoch import make_epoch
from jaxnn.train.losses.types import LossFn, Penalty
from jaxnn.train.step import batching
from jaxnn.train.step.batching import Reduction
from jaxnn.train.step.compiling import Options
from jaxnn.train.step.state import TrainState
from jaxnn.train.step.step import Preprocess, make_step


def dry_run(
    state: TrainState,
    data: Any,
    loss_fn: LossFn,
    *,
    test_data: Any = None,
    epochs: int = 10,
    batch_size: int = 128,
    penalty: Penalty | None = None,
    preprocess: Preprocess | None = None,
    reduction: Reduction = "examples",
    drop_last: bool = False,
    chunk: int | None = None,
    parallel: Parallel | None = None,
    compiler_options: Options | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> str:
    """Reports what `fit` would cost: compiles its program for shapes, and trains nothing.

    Args:
        state: From `create_state`, or its shapes (`jax.eval_shape`).
        data: As for `fit`, but no stream.
        loss_fn: As for `fit`.
        test_data: As for `fit`.
        epochs: As for `fit`.
        batch_size: As for `fit`.
        penalty: As for `fit`.
        preprocess: As for `fit`.
        reduction: As for `fit`.
        drop_last: As for `fit`.
        chunk: As for `fit`.
        parallel: As for `fit`.
        compiler_options: As for `fit`.
        resume: A run folder; also reports where the run would resume.

    Returns:
        Text to print: parameters by layer, FLOPs of a step, an epoch and the run, memory on each device, and the time
        to compile.

    Raises:
        ValueError: If the data is a stream, or shapes do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> state = train.create_state(jnp.zeros(10), optax.adam(0.1), jax.random.key(0))
        >>> print(train.loop.dry_run(state, (jnp.ones((40, 10)), jnp.ones(40)), loss_fn, batch_size=8))
        <BLANKLINE>
        ...
        a step     320 FLOP  8 examples
        an epoch  1.6 kFLOP  5 steps
        the run    16 kFLOP  10 epochs; tests are not counted
        ...
    """
    if isinstance(data, Stream):
        raise ValueError("data: expected arrays, got a data.Stream; give a few batches of it as arrays.")
    step = make_step(
        loss_fn, penalty=penalty, preprocess=preprocess, reduction=reduction, compiler_options=compiler_options
    )
    one, whole = _shapes(state), None
    placed = one
    if parallel is not None:
        whole = NamedSharding(parallel.mesh, PartitionSpec())
        placed = jax.tree.map(_shapes, one, parallel.state_shardings(one))
    learned, tested = _shapes(data, whole), _shapes(test_data, whole)
    if isinstance(data, Computed):
        steps, batch = data.steps, jax.eval_shape(data.batch_at, one.key, one.step)
        batch_size = jax.tree.leaves(batch)[0].shape[0]
    else:
        steps = batching.steps(batching.count(data), batch_size, drop_last)
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype), data)
    once = inspect.flops(step, one, batch)
    program = make_epoch(step, batch_size=batch_size, chunk=chunk, parallel=parallel, drop_last=drop_last)
    cost = inspect.cost(program, placed, learned)
    work = [
        ["a step", metric(once) + "FLOP", f"{batch_size:,} examples"],
        ["an epoch", metric(steps * once) + "FLOP", f"{steps:,} steps"],
        ["the run", metric(epochs * steps * once) + "FLOP", f"{epochs:,} epochs; tests are not counted"],
    ]
    here = jax.devices()[:1] if parallel is None else parallel.mesh.local_devices
    what = "an epoch" if chunk is None else f"a program of {chunk:,} steps"
    cache = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return "\n".join(
        [
            f"\n{inspect.summary(placed.all_params)}",
            "\nwork, forward and backward: matrix products and convolutions, 2 FLOP a multiply-add",
            aligned(work, "lrl"),
            f"\nmemory to train {what}{'' if parallel is None else f', of each of {parallel.devices} devices'}",
            aligned(memory_rows(placed, learned, tested, cost.memory, here), "lrl"),
            f"\ncompiled in {cost.seconds:.1f} s" + (f", unless the cache {cache} had it" if cache else ""),
            *([] if resume is None else [position(Path(resume), steps, epochs)]),
            "a dry run: nothing was trained, and no run folder made or touched",
        ]
    )


def _shapes(tree: Any, sharding: NamedSharding | None = None) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def memory_rows(
    state: Any, learned: Any, tested: Any, program: Memory | None, devices: list[jax.Device]
) -> list[list[str]]:
    """Lists what takes memory on a device, each with its size and a remark."""
    held = memory.bytes_held(tested)
    rows = [
        ["state", readable(memory.bytes_held(state)), "parameters, optimiser, random key"],
        ["training set", readable(memory.bytes_held(learned)), ""],
    ]
    if tested is not None:
        rows.append(["test set", readable(held), ""])
    if program is None:
        return [*rows, ["program", "unknown", "the backend does not tell"]]
    free = memory.bytes_free(devices)
    what = "the program and the test set" if held else "the program"
    limit = f"; {readable(free)} are free" if free < memory.UNLIMITED else ""
    return [
        *rows,
        ["arguments", readable(program.arguments), "of the program: state and training set"],
        ["outputs", readable(program.outputs), f"{readable(program.reused)} in the state's place"],
        ["temporaries", readable(program.temporaries), ""],
        ["at the peak", readable(program.peak + held), f"{what}{limit}"],
    ]


def position(run: Path, steps: int, epochs: int) -> str:
    """Reports where a run would resume, a line for each network if it trains several.

    Checkpoints are named by their step; to look into them would touch them.
    """
    folder = run / "checkpoints"
    parts = sorted(path for path in folder.glob("*") if not path.name.isdigit() and path.is_dir() and saved_steps(path))
    named = [(part, f"{run}, {part.name},") for part in parts] or [(folder, str(run))]
    return "\n".join(_resumes(saved_steps(part), name, steps, epochs) for part, name in named)


def _resumes(saved: list[int], name: str, steps: int, epochs: int) -> str:
    if not saved:
        return f"{name} has no checkpoint: the run would start from the beginning"
    epoch, inside = divmod(saved[-1], steps)
    if epoch >= epochs:
        return f"{name} is at its end, after {epoch:,} epochs"
    rest = f" and {inside:,} steps" if inside else ""
    return f"{name} would resume after {epoch:,} of {epochs:,} epochs{rest}"


def metric(number: float) -> str:
    """A number in three digits and a unit's prefix: 3,700,359,168 is "3.7 G"."""
    power = 0
    while number >= 999.5 and power < 6:
        number, power = number / 1000, power + 1
    return f"{number:.3g} {['', 'k', 'M', 'G', 'T', 'P', 'E'][power]}"
