"""Whether cuDNN's LSTM can be used on this machine, tried once in each process."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.kernels.cudnn import forward_p, reserved_size, values


@functools.cache
def missing() -> str | None:
    """Returns what cuDNN's LSTM lacks on this machine, as a `NotServedError` says it; None if it can be used."""
    try:
        gpu, *_ = jax.devices("cuda")
    except RuntimeError:
        return "no NVIDIA GPU here, without which it cannot be traced"
    try:
        reserved_size((1, 1, 1), 1, None)
    except (ImportError, AttributeError) as error:
        return f"no jax.experimental.rnn that works here ({error})"
    with jax.default_device(gpu):
        return None if agrees() else "no right results from jax.experimental.rnn here"


def agrees() -> bool:
    """Compares cuDNN with `kernels.recurrence`: values and gradients of a small layer, whose arrays are transposed."""
    rng = np.random.default_rng(0)
    shapes = (5, 3, 4), (3, 8), (3, 8), (4, 32), (8, 32), (32,)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]

    def of(run: Callable[..., Any]) -> Any:
        def layer(lengths: jax.Array, xs: jax.Array, *others: jax.Array) -> tuple[jax.Array, ...]:
            ys, h, c, *_ = run(lengths, jnp.moveaxis(xs, 0, 1), *others)
            return jnp.moveaxis(ys, 1, 0), h, c

        @jax.jit
        def everything(lengths: jax.Array, *arrays: jax.Array) -> Any:
            results, pull = jax.vjp(functools.partial(layer, lengths), *arrays)
            return results, pull(results)

        return jax.tree.leaves(everything(np.array([5, 3, 1], np.int32), *arrays))

    with jax.ensure_compile_time_eval():  # also while a program is traced
        pairs = zip(
            of(functools.partial(forward_p.bind, precision=None)),
            of(functools.partial(values, precision="highest")),
            strict=True,
        )
        return all(np.abs(got - due).max() < 0.02 * np.abs(due).max() for got, due in pairs)
