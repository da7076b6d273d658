"""Training sharded over the devices of a mesh: the placement of state, data and batches, and nothing else.

The program stays the one of a single device. Arrays are global, `jax.jit` splits the work by their shardings and adds
the communication, so batch size, seeds, metrics and checkpoints mean the same at every scale.
"""

import dataclasses
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnn import keys
from jaxnn.counts import check_count
from jaxnn.train.devices import distributed
from jaxnn.train.losses.types import Metrics
from jaxnn.train.step.compiling import jit, options_for
from jaxnn.train.step.state import TrainState, check_state
from jaxnn.train.step.step import Preprocess

T = TypeVar("T")
Step = Callable[..., tuple[TrainState, Metrics]]
"""`(state, batch, weights=None) -> (state, metrics)`."""

SMALLEST = 4096
"""Elements below which an array is replicated: gathering it would cost more than holding it."""


@dataclasses.dataclass(frozen=True)
class Parallel:
    """How training is sharded over devices: the result of `parallel`, an argument of `fit`.

    Every batch is sharded over all devices. The state is sharded over the axis `shard` (FSDP, or ZeRO's third stage)
    and replicated along the others.

    Attributes:
        mesh: The devices, a mesh of any axes, which become automatic; `data` and `shard` if `parallel` made it.
        shard: The axis over which the state is sharded; None replicates it.

    Raises:
        ValueError: If the mesh does not have the axis.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> parallel = train.parallel(devices=1)  # by default all devices
        >>> state = parallel.state(train.create_state(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0)))
        >>> step = parallel.step(train.make_step(loss_fn))
        >>> state, metrics = step(state, parallel.batch((jnp.eye(2), jnp.array([1.0, 3.0]))))
        >>> float(metrics["loss"])
        5.0
    """

    mesh: Mesh
    shard: str | None = "shard"

    def __post_init__(self) -> None:
        axes = self.mesh.axis_names
        if self.shard is not None and self.shard not in axes:
            raise ValueError(
                f"shard: expected an axis of the mesh, {' or '.join(map(repr, axes))}, got {self.shard!r}; name the "
                "one to shard parameters and optimiser over, or give None to replicate them."
            )
        # Explicit axes would have the model shard the program, not XLA.
        object.__setattr__(self, "mesh", Mesh(self.mesh.devices, axes))

    @property
    def devices(self) -> int:
        """Number of devices over which a batch is sharded."""
        return self.mesh.size

    def check_batch_size(self, batch_size: int, name: str = "batch_size") -> None:
        """Raises a ValueError about the argument `name` if the number of devices does not divide the batch size."""
        if batch_size % self.devices:
            lower = batch_size // self.devices * self.devices
            near = f"{lower} or {lower + self.devices}" if lower else f"{self.devices}"
            raise ValueError(
                f"{name}: expected a multiple of the {self.devices} devices, got {batch_size}; take {near}, or fewer "
                "devices."
            )

    def round_up(self, batch_size: int) -> int:
        """Rounds a batch size up to a multiple of the number of devices, for evaluation."""
        return -(-batch_size // self.devices) * self.devices

    def state_shardings(self, state: TrainState) -> TrainState:
        """Returns the sharding of each array of a state.

        Parameters, their average and the optimiser's arrays of at least `SMALLEST` elements are sharded along their
        longest axis that the size of `shard` divides; all other arrays are replicated.

        Args:
            state: A state, or its shapes (`jax.eval_shape`).

        Returns:
            The shardings.
        """
        replicated = jax.tree.map(lambda _: self._sharding(P()), state)
        large = {name: getattr(state, name) for name in ("params", "opt_state", "frozen", "ema")}
        return dataclasses.replace(replicated, **jax.tree.map(self._split, large))

    def state(self, state: TrainState) -> TrainState:
        """Places a state on the mesh. Use the returned one: it may share memory with the argument.

        Args:
            state: A state, equal in every process (from the same seed); it may be on the mesh already.

        Returns:
            The state on the mesh.

        Raises:
            ValueError: If processes have different states.
        """
        check_state(state)
        shardings = self.state_shardings(state)
        if jax.process_count() == 1:
            return jax.device_put(state, shardings)
        if not any(getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(state)):
            return jax.jit(lambda state: state, out_shardings=shardings)(state)
        _check_same(state)
        return jax.tree.map(_from_every_process, state, shardings)

    def data(self, data: T) -> T:
        """Places a whole data set on every device, in its stored dtype.

        Each of several processes reads only its part of the arrays, for example of memory-mapped files, and the devices
        exchange the parts.

        Args:
            data: A pytree of arrays that share their leading length, equal in every process.

        Returns:
            The data, replicated.

        Raises:
            ValueError: If processes have data of different shapes.
        """
        if jax.process_count() == 1:
            return jax.device_put(data, self._sharding(P()))
        distributed.check_same("data", _shapes(data), "give each process the whole data set; it reads its part alone")
        return jax.tree.map(self._exchanged, data)

    def batch(self, batch: T) -> T:
        """Places a batch: each device gets its part of the examples.

        Args:
            batch: A pytree of arrays on the host, `(batch, ...)`; with several processes the rows of the
                global batch that `rows` returns.

        Returns:
            Global arrays, sharded along their first axis; numbers are replicated.
        """
        made, processes = jax.make_array_from_process_local_data, self._processes
        shapes = jax.tree.map(lambda x: (processes * x.shape[0], *x.shape[1:]) if np.ndim(x) else (), batch)
        return jax.tree.map(lambda x, shape: made(self._of_batch(x), np.asarray(x), shape), batch, shapes)

    def rows(self, batch_size: int) -> np.ndarray:
        """Returns the rows of a global batch that the devices of this process hold, ascending."""
        self.check_batch_size(batch_size)
        held = self.batch_sharding.addressable_devices_indices_map((batch_size,))
        return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held.values() if index is not None]))

    def step(self, step: Step) -> Step:
        """Makes a step whose batch is sharded over the devices and whose state stays where `state` placed it.

        Args:
            step: A step of `make_step`, or any `(state, batch, weights) -> (state, metrics)`.

        Returns:
            The same step, jitted, the state donated; metrics are replicated.
        """

        @partial(jit, compiler_options=options_for(step, None), warn_of_retraces=True, donate_argnums=0, inline=True)
        def sharded(state: TrainState, batch: Any, weights: jax.Array | None = None) -> tuple[TrainState, Metrics]:
            state, metrics = step(state, self.split(batch), self.split(weights))
            return self.constrain(state), self.replicate(metrics)

        return sharded

    def constrain(self, state: TrainState) -> TrainState:
        """Constrains a state to the shardings of `state`, inside `jit`."""
        return jax.lax.with_sharding_constraint(state, self.state_shardings(state))

    def preprocess(self, preprocess: Preprocess | None) -> Preprocess:
        """Makes a preprocessing, from one or None, that shards batches first, for `evaluate` and `predict`."""

        def sharded(key: jax.Array | None, batch: Any) -> Any:
            batch = self.split(batch)
            return batch if preprocess is None else preprocess(key, batch)

        return sharded

    def split(self, batch: T) -> T:
        """Shards a batch, inside `jit`, over the devices along its first axis; numbers are replicated."""
        for array in filter(np.ndim, jax.tree.leaves(batch)):
            self.check_batch_size(array.shape[0])
        return jax.lax.with_sharding_constraint(batch, jax.tree.map(self._of_batch, batch))

    def replicate(self, tree: T) -> T:
        """Replicates arrays over all devices, so that every process can read them; inside `jit` too."""
        return jax.lax.with_sharding_constraint(tree, self._sharding(P()))

    @property
    def batch_sharding(self) -> NamedSharding:
        """The sharding of a batch: over all devices along its first axis."""
        return self._sharding(P(self.mesh.axis_names))

    @property
    def _processes(self) -> int:
        return len({device.process_index for device in self.mesh.devices.flat})

    def _of_batch(self, array: Any) -> NamedSharding:
        return self.batch_sharding if np.ndim(array) else self._sharding(P())

    def _sharding(self, spec: P) -> NamedSharding:
        return NamedSharding(self.mesh, spec)

    def _split(self, array: Any) -> NamedSharding:
        parts = 1 if self.shard is None else self.mesh.shape[self.shard]
        fitting = [axis for axis, size in enumerate(array.shape) if size % parts == 0]
        if parts == 1 or array.size < SMALLEST or not fitting:
            return self._sharding(P())
        longest = max(fitting, key=lambda axis: array.shape[axis])
        return self._sharding(P(*[None] * longest, self.shard))

    def _exchanged(self, array: Any) -> jax.Array:
        length = array.shape[0]
        filled = -(-length // self.devices) * self.devices
        rows = self.rows(filled)
        rows = rows[rows < length]
        part = np.zeros((filled // self._processes, *array.shape[1:]), array.dtype)
        if rows.size:
            part[: rows.size] = array[rows[0] : rows[-1] + 1] if rows.size == np.ptp(rows) + 1 else array[rows]
        whole = jax.make_array_from_process_local_data(self.batch_sharding, part, (filled, *array.shape[1:]))
        return jax.jit(lambda x: x[:length], out_shardings=self._sharding(P()))(whole)


def _from_every_process(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    """Makes a global array of one that every process holds whole."""
    whole = np.asarray(keys.data_of(array))
    made = jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
    return keys.with_data(array, made)


def _check_same(state: TrainState) -> None:
    leaves = jax.tree.leaves(state)
    checksum = zlib.crc32(_shapes(leaves).encode())
    for leaf in map(keys.data_of, leaves):
        checksum = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), checksum)
    distributed.check_same("state", f"checksum {checksum}", "make it from the same seed or checkpoint in each")


def _shapes(tree: Any) -> str:
    """The shapes and dtypes of arrays, in a few words."""
    return ", ".join(f"{leaf.dtype} {leaf.shape}" for leaf in jax.tree.leaves(tree))


def parallel(devices: int | None = None, *, shard: int = 1) -> Parallel:
    """Chooses the devices to train on, of all processes together.

    Args:
        devices: Number of devices; all by default. With several processes it must be all.
        shard: Number of devices over which parameters and optimiser state are sharded, a divisor of `devices`. 1
            replicates them on every device.

    Returns:
        An argument of `fit`. Its methods place states, data and batches in your own loop.

    Raises:
        ValueError: If there are fewer devices, or `shard` does not divide them.

    Example:
        >>> from jaxnn import train
        >>> train.parallel(1).devices
        1
        >>> train.parallel(1, shard=2)
        Traceback (most recent call last):
            ...
        ValueError: shard: expected a divisor of the 1 device, got 2
    """
    there = jax.devices()
    count = len(there) if devices is None else check_count("devices", devices)
    if not 1 <= count <= len(there):
        kinds = f"{len(there)} {there[0].platform} {'device' if len(there) == 1 else 'devices'}"
        advice = "; XLA_FLAGS=--xla_force_host_platform_device_count=8 makes eight of one CPU."
        more = advice if there[0].platform == "cpu" else ""
        raise ValueError(f"devices: expected 1 to {len(there)}, since JAX sees {kinds} here, got {count}{more}")
    if jax.process_count() > 1 and count != len(there):
        raise ValueError(f"devices: expected all {len(there)} of a job of {jax.process_count()} processes, got {count}")
    if count % check_count("shard", shard):
        raise ValueError(f"shard: expected a divisor of the {count} device{'s' if count > 1 else ''}, got {shard}")
    return Parallel(jax.make_mesh((count // shard, shard), ("data", "shard"), devices=there[:count]))
