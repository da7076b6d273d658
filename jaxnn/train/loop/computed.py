"""Training data that each step computes on the device, from the state's key and the step's number."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxnn.counts import check_count
from jaxnn.train.step import batching

OF_DATA = np.uint32(2**32 - 1)
"""Folded into the state's key for the order or content of the data.

Steps draw from `fold_in(key, step)` with int32 steps, so this number is never one of theirs.
"""


@runtime_checkable
class Computed(Protocol):
    """Data for `fit` and `make_epoch` that is computed: a pytree that makes its batches inside the compiled epoch.

    Attributes:
        steps: Steps per epoch.
    """

    @property
    def steps(self) -> int:
        """Returns the steps of an epoch."""

    def batch_at(self, key: jax.Array, step: jax.Array) -> Any:
        """Returns the batch of a step.

        Args:
            key: The state's key.
            step: Number of steps taken so far, int32 `()`.

        Returns:
            A pytree of arrays that share their leading length.
        """


@struct.dataclass
class Generated:
    """Batches that a function makes, a new one in every step.

    Attributes:
        make: `(key) -> batch`, traced inside the compiled epoch. Equal functions share a compiled epoch.
        steps: Steps per epoch.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def make(key):
        ...     x = jax.random.normal(key, (8, 2))
        ...     return x, x @ jnp.array([1.0, -2.0])
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> state = train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0))
        >>> state, _ = train.fit(state, train.Generated(make, steps=50), loss_fn, epochs=2, progress=False)
        >>> [round(float(w), 1) for w in state.params]
        [1.0, -2.0]
    """

    make: Callable[[jax.Array], Any] = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise ValueError(f"make: expected a function (key) -> batch, got {self.make!r}")
        check_count("steps", self.steps)

    def batch_at(self, key: jax.Array, step: jax.Array) -> Any:
        """Returns a batch that `make` draws."""
        return self.make(jax.random.fold_in(jax.random.fold_in(key, OF_DATA), step))


class Chunk(NamedTuple):
    """A piece of each of several parallel streams.

    Attributes:
        values: `(streams, length + 1, ...)`. The last element is only a target here, and the first of the next chunk.
        fresh: Whether each stream restarts here, bool `(streams,)`.
    """

    values: Any
    fresh: jax.Array


@struct.dataclass
class TBPTT:
    r"""One long sequence as chunks of parallel streams, for truncated back-propagation through time.

    The sequence is periodic: its first element follows its last. An epoch starts at a random offset and divides the
    sequence into one part per stream, which is read chunk after chunk from the initial state. With `restart`, streams
    also restart at random, so that the model sees the initial state more often.

    A step trains on a `Chunk`. `train.loop.Stateful` carries a model's state from chunk to chunk, so gradients go back
    `length` steps and the state goes further.

    Attributes:
        sequence: Array `(time, ...)`, or a pytree of arrays that share their leading length.
        streams: Number of parallel streams: the batch.
        length: Elements of each stream in a step, and the number of steps that gradients go back.
        restart: Probability that a stream restarts before a chunk.

    Raises:
        ValueError: If the sequence is too short for the streams, or a number is out of range.

    References:
        Williams and Peng, An efficient gradient-based algorithm for on-line training of recurrent network
        trajectories, 1990.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from flax import nnx
        >>> from jaxnn import models, train
        >>> model = models.LanguageModel(5, embed_features=4, hidden_features=8, rngs=nnx.Rngs(0))
        >>> state = train.create_state(train.loop.Stateful(model, 2), optax.adam(1e-2), jax.random.key(0))
        >>> text = train.loop.TBPTT(jnp.arange(400) % 5, streams=2, length=20)
        >>> state, history = train.fit(state, text, train.loop.next_token_loss, epochs=10, progress=False)
        >>> history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
        True
    """

    sequence: Any
    streams: int = struct.field(pytree_node=False)
    length: int = struct.field(pytree_node=False)
    restart: float = struct.field(pytree_node=False, default=0.0)

    def __post_init__(self) -> None:
        check_count("streams", self.streams)
        check_count("length", self.length)
        if not 0 <= self.restart <= 1:
            raise ValueError(f"restart: expected a probability from 0 to 1, got {self.restart}")

    @property
    def steps(self) -> int:
        """Returns the number of chunks in which all streams together read the sequence once."""
        elements = batching.count(self.sequence, "sequence")
        if elements < self.streams * self.length:
            raise ValueError(
                f"streams: expected at most {elements // self.length} of chunks of {self.length}, for a sequence of "
                f"{elements:,}, got {self.streams}; take fewer streams or a smaller length."
            )
        return (elements // self.streams) // self.length

    def batch_at(self, key: jax.Array, step: jax.Array) -> Chunk:
        """Returns the chunk that a step reads."""
        elements, number = batching.count(self.sequence, "sequence"), self.steps
        epoch, place = step // number, step % number
        of_turns, of_restarts = jax.random.split(jax.random.fold_in(key, OF_DATA))
        turn = jax.random.randint(jax.random.fold_in(of_turns, epoch), (), 0, elements)
        starts = turn + jnp.arange(self.streams) * (elements // self.streams) + place * self.length
        positions = (starts[:, None] + jnp.arange(self.length + 1)[None]) % elements
        restarts = jax.random.bernoulli(jax.random.fold_in(of_restarts, step), self.restart, (self.streams,))
        return Chunk(jax.tree.map(lambda x: x[positions], self.sequence), restarts | (place == 0))
