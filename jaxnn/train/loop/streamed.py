"""An epoch over a data set that is read batch by batch, since it does not fit on the device."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import keys
from jaxnn.counts import check_count
from jaxnn.data.stream import Stream
from jaxnn.train.devices.sharding import Parallel
from jaxnn.train.loop.epoch import epoch_order
from jaxnn.train.losses.types import Metrics
from jaxnn.train.step import batching
from jaxnn.train.step.expected import check_arrays
from jaxnn.train.step.state import TrainState, check_state

Step = Callable[..., tuple[TrainState, Metrics]]
Weighted = tuple[Any, jax.Array | None]


@dataclasses.dataclass(frozen=True)
class StreamedEpoch:
    """The epoch `(state, stream) -> (state, metrics)`, as `make_epoch` makes it, for a `data.Stream`.

    It visits the examples in the order of `make_epoch`, in batches that are copied to the device while earlier steps
    run. The next batch follows from `state.step` alone, so a saved state resumes where it stopped. A call that stops
    inside an epoch keeps its readers open for the next call. Each of several processes reads only the examples on which
    its devices train.

    Attributes:
        step: A jitted step that donates the state, from `make_step`.
        batch_size: Examples per step, of all devices together.
        parallel: The devices over which each batch is sharded.
        ahead: Number of batches on the device besides the one in use.
        check: Called with each batch on the host and the numbers of its examples before it goes to the device; it
            raises if something is wrong. None checks nothing.
        drop_last: As for `make_epoch`.
        start: As for `make_epoch`.

    Raises:
        ValueError: If `batch_size` is not positive or not divisible by the number of devices.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, optax
        >>> from jaxnn import data, train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
        >>> stream = data.Stream((x, x @ np.array([1, -2], np.float32)))  # np.load(..., mmap_mode="r") as well
        >>> epoch = train.loop.StreamedEpoch(train.make_step(loss_fn), batch_size=8)
        >>> state = train.create_state(jnp.zeros(2), optax.sgd(0.2), jax.random.key(0))
        >>> state, metrics = epoch(state, stream, steps=5)  # the position is in the state
        >>> state, metrics = epoch(state, stream)
        >>> metrics["examples"].tolist(), [round(float(w), 1) for w in state.params]
        ([8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 4.0], [1.0, -2.0])
    """

    step: Step
    batch_size: int
    parallel: Parallel | None = None
    ahead: int = 2
    check: Callable[[Any, np.ndarray], None] | None = None
    drop_last: bool = False
    start: int = 0
    _left: dict[Any, Iterator[Weighted]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        batching.steps(1, self.batch_size)
        check_count("ahead", self.ahead, 0)
        if self.parallel is not None:
            self.parallel.check_batch_size(self.batch_size)
            object.__setattr__(self, "step", self.parallel.step(self.step))

    def __call__(self, state: TrainState, stream: Stream, steps: int | None = None) -> tuple[TrainState, Metrics]:
        """Trains to the end of the state's epoch, or for `steps` steps if that is sooner.

        Args:
            state: The state; donated.
            stream: The training set.
            steps: Largest number of steps; None trains to the end of the epoch.

        Returns:
            The new state, and metrics `(steps taken,)` as of `make_epoch`.

        Raises:
            ValueError: If `steps` is not a positive whole number.
            WorkerDiedError: If a reading process died.
        """
        check_state(state)
        if steps is not None:
            check_count("steps", steps)
        metrics: list[Metrics] = []
        batches = self._batches(state, stream)
        for batch, weights in itertools.islice(batches, steps):
            state, each = self.step(state, batch, weights)
            metrics.append(each)
            # Python is faster than the device: without this wait it would copy the whole epoch there.
            if len(metrics) > self.ahead:
                jax.block_until_ready(metrics[-1 - self.ahead])
        if (int(state.step) - self.start) % self.steps(stream.examples):  # inside the epoch
            self._left[self._place_of(state, stream)] = batches
        return state, {name: jnp.stack([each[name] for each in metrics]) for name in metrics[0]}

    def lower(self, state: TrainState, stream: Stream) -> jax.stages.Lowered:
        """Lowers the step, to compile it before the first epoch.

        Args:
            state: A state.
            stream: The training set.

        Returns:
            The lowered step; its `compile()` compiles it.
        """
        batches = self._batches(state, stream)
        batch, weights = next(batches)
        self._left[self._place_of(state, stream)] = itertools.chain([(batch, weights)], batches)
        lowered: jax.stages.Lowered = self.step.lower(state, batch, weights)  # type: ignore[attr-defined]
        return lowered

    def steps(self, examples: int) -> int:
        """The number of steps of an epoch."""
        return batching.steps(examples, self.batch_size, self.drop_last)

    def batch(self, state: TrainState, stream: Stream, step: int) -> tuple[Any, np.ndarray]:
        """Reads the batch of an earlier step again, on the host.

        Args:
            state: A state, whose key determines the order.
            stream: The training set.
            step: The step, from 0.

        Returns:
            The batch, and the numbers of its examples; each of several processes gets its part.
        """
        at = dataclasses.replace(state, step=jnp.asarray(step, jnp.int32))
        numbers, _ = self._numbers(at, stream, 1)
        return next(stream.batches(numbers)), numbers[0]

    def _batches(self, state: TrainState, stream: Stream) -> Iterator[Weighted]:
        """Returns the batches from here to the end of the epoch, of the open readers if they are at this place."""
        left = self._left.pop(self._place_of(state, stream), None)
        self._left.clear()  # ends the readers of another place
        return self._placed(state, stream) if left is None else left

    def _place_of(self, state: TrainState, stream: Stream) -> Any:
        return id(stream), np.asarray(keys.data_of(state.key)).tobytes(), int(state.step)

    def _placed(self, state: TrainState, stream: Stream) -> Iterator[Weighted]:
        """Yields batches on the device, with `ahead` more on the way."""
        numbers, flat = self._numbers(state, stream)
        full = self.drop_last or stream.examples % self.batch_size == 0
        queue: collections.deque[Weighted] = collections.deque()
        for batch, examples, positions in zip(stream.batches(numbers), numbers, flat, strict=True):
            check_arrays(batch, "stream")
            if self.check is not None:
                self.check(batch, examples)
            weights = None if full else self._place((positions < stream.examples).astype(np.float32))
            queue.append((self._place(batch), weights))
            if len(queue) > self.ahead:
                yield queue.popleft()
        yield from queue

    def _numbers(self, state: TrainState, stream: Stream, steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The examples of the next steps of the state's epoch, and their positions in its order, `(steps, batch)`.

        Of several processes each gets the columns that its devices train on. Positions past the last example fill a
        short batch up.
        """
        examples, in_epoch = stream.examples, self.steps(stream.examples)
        epoch, first = divmod(int(state.step) - self.start % in_epoch, in_epoch)
        last = in_epoch if steps is None else min(in_epoch, first + steps)
        rows = np.arange(self.batch_size) if self.parallel is None else self.parallel.rows(self.batch_size)
        flat = np.arange(first, last)[:, None] * self.batch_size + rows
        return order_on_host(state.key, epoch, examples)[flat % examples], flat

    def _place(self, batch: Any) -> Any:
        return jax.device_put(batch) if self.parallel is None else self.parallel.batch(batch)


def order_on_host(key: jax.Array, epoch: int, examples: int) -> np.ndarray:
    """Computes `epoch_order` on the host, to save memory of the device."""
    words = np.asarray(keys.data_of(key))
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return np.asarray(epoch_order(keys.with_data(key, jnp.asarray(words)), epoch, examples))
