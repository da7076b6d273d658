"""The sides of `experiments.bench.gpu`, on JAX's default device: compiled ahead of time, with their peak memory."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments.bench.case import Work
from experiments.bench.sides import flax_recurrent, jax_layers, jax_sequences, jaxnn_recurrent
from experiments.bench.sides.pictures import pictures
from jaxnn import models, train
from jaxnn.inspect.memory import memory_of
from jaxnn.train.step.precision import Name


class Ready(NamedTuple):
    """A side that is ready to be timed.

    Attributes:
        work: The work.
        compiling: Seconds to trace and to compile; 0 if nothing is compiled.
        peak: Bytes of device memory that the work needs, with its arguments and results; None if unknown.
    """

    work: Work
    compiling: float
    peak: int | None


def jaxnn_recurrence(
    kind: str, batch: int, time: int, features: int, hidden: int, dtype: str, train: bool, algorithm: str
) -> Ready:
    """A recurrent layer of jaxnn, computed by an algorithm."""
    apply, params = jaxnn_recurrent.apply_of(kind, features, hidden, algorithm, jnp.dtype(dtype))
    shape = (batch, time, features)
    return _ready(*jax_sequences.program_of(apply, params, shape, train, jnp.dtype(dtype)))


def flax_recurrence(kind: str, batch: int, time: int, features: int, hidden: int, dtype: str, train: bool) -> Ready:
    """A recurrent layer of Flax, in `nnx.RNN`."""
    apply, params = flax_recurrent.apply_of(kind, batch, features, hidden, jnp.dtype(dtype))
    shape = (batch, time, features)
    return _ready(*jax_sequences.program_of(apply, params, shape, train, jnp.dtype(dtype)))


def torch_recurrence(kind: str, batch: int, time: int, features: int, hidden: int, dtype: str, train: bool) -> Ready:
    """A recurrent layer of PyTorch, on the kind of device that JAX uses."""
    import torch

    from experiments.bench.sides import torch_recurrent

    platform = jax.default_backend()
    if platform != "cpu" and not (platform == "gpu" and torch.cuda.is_available()):
        raise RuntimeError(f"PyTorch {torch.__version__}: no support for {platform}")
    device = "cuda" if platform == "gpu" else "cpu"
    work = torch_recurrent.layer(kind, batch, time, features, hidden, train, dtype, device)
    if device == "cpu":
        return Ready(work, 0.0, None)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    return Ready(work, 0.0, torch.cuda.max_memory_allocated())


def convolution(
    x: Sequence[int],
    window: Sequence[int],
    stride: int,
    padding: Sequence[Sequence[int]],
    groups: int,
    gradients: str,
    calls: int,
    dtype: str,
    plain: bool,
) -> Ready:
    """A convolution in jaxnn or, with `plain`, in `jax.lax`, on `calls` inputs in a compiled loop."""
    once, arguments = jax_layers.program_of(
        "conv", x, window, stride, padding, groups, gradients, calls, plain, jnp.dtype(dtype)
    )
    return _ready(jax_layers.in_a_loop(once), arguments)


def cifar10(batch: int, examples: int, epochs: int, precision: Name) -> Ready:
    """Training of the CIFAR-10 network on random pictures, all epochs as one compiled program."""
    dtypes = train.precision(precision)
    model = models.Cifar10Net(**dtypes, rngs=nnx.Rngs(0))
    state = train.create_state(model, optax.adam(1e-3), jax.random.key(0), loss_scale=dtypes.loss_scale)
    step = train.make_step(train.losses.classification(), preprocess=train.image_preprocess())
    epoch = train.make_epoch(step, batch_size=batch)

    def run(state: train.TrainState, data: Any) -> Any:
        return jax.lax.scan(lambda state, _: epoch(state, data), state, length=epochs)

    return _ready(run, (state, jax.device_put(pictures("cifar10", examples))), jit=train.jit)


def _ready(function: Callable[..., Any], arguments: tuple[Any, ...], jit: Callable[..., Any] = jax.jit) -> Ready:
    began = time.perf_counter()
    compiled = jit(function).lower(*arguments).compile()
    compiling = time.perf_counter() - began
    memory = memory_of(compiled)
    peak = None if memory is None else memory.peak
    return Ready(lambda: jax.block_until_ready(compiled(*arguments)), compiling, peak)
