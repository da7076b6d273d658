"""Many training runs as one compiled program: mapped over members, in chunks, sharded over devices."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnn.counts import check_count
from jaxnn.inspect.memory import bytes_free, bytes_needed, readable
from jaxnn.train.devices.shortage import shortage
from jaxnn.train.ensemble.members import count_members
from jaxnn.train.step.compiling import Jitted, Options, jit, options_for
from jaxnn.train.step.state import TrainState, check_state

Function = Callable[..., tuple[TrainState, Any]]
"""`(state, *args) -> (state, results)`: a step, an epoch, or anything made of them."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The placement of members on devices and in time.

    Attributes:
        members: Number of members.
        devices: Number of devices over which they are sharded, in equal parts.
        chunks: Number of chunks that each device computes one after the other.
        members_per_chunk: Number of members that a device computes at once.
    """

    members: int
    devices: int
    chunks: int
    members_per_chunk: int

    @classmethod
    def of(cls, members: int, devices: int, most: int) -> "Layout":
        """Makes the layout with the fewest chunks of at most `most` members, on no more devices than needed."""
        each = math.ceil(members / devices)
        devices = math.ceil(members / each)
        chunks = math.ceil(each / most)
        return cls(members, devices, chunks, math.ceil(each / chunks))

    @property
    def each(self) -> int:
        """Members per device."""
        return math.ceil(self.members / self.devices)

    def __str__(self) -> str:
        parts = [f"{self.members} members"]
        if self.devices > 1:
            parts.append(f"over {self.devices} devices")
        if self.chunks > 1:
            parts.append(f"in {self.chunks} chunks of {self.members_per_chunk}")
        return " ".join(parts)


class Ensemble:
    """A training function of one state, for stacked states: `(states, *args) -> (states, results)`.

    The result of `ensemble.make`. Call it like its function.
    """

    def __init__(
        self,
        function: Function,
        members_per_chunk: int | None,
        devices: Sequence[jax.Device] | None,
        memory: int | None,
        compiler_options: Options | None,
    ):
        self._options = options_for(function, compiler_options)
        self._function, self._members_per_chunk, self._memory = function, members_per_chunk, memory
        # Each process trains on its devices: members do not communicate.
        self._devices = list(jax.local_devices() if devices is None else devices)
        self._prepared: dict[Any, tuple[Layout, Jitted]] = {}

    def __call__(self, states: TrainState, *args: Any) -> tuple[TrainState, Any]:
        """Runs the function on every member; the states are donated."""
        check_state(states, "states")
        _, program = self._prepare(states, args)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((states, args))):
            return program(states, *args)
        return program(*self.put(states, *args))

    def prepare(self, states: TrainState, *args: Any) -> Layout:
        """Compiles the program for states and arguments of these shapes, once, and returns the layout.

        Raises:
            ValueError: If the states are not stacked, or not even one member at a time fits the memory.
        """
        return self._prepare(states, args)[0]

    def results(self, states: TrainState, *args: Any) -> Any:
        """Traces the program, and returns the shapes and dtypes of its results, of all members."""
        members = count_members(states)
        layout = Layout.of(members, len(self._devices), self._members_per_chunk or members)
        return self._program(layout, len(args)).trace(states, *args).out_info[1]

    def put(self, states: TrainState, *args: Any) -> tuple[Any, ...]:
        """Places states and arguments on the devices of the program, without needless copies."""
        own, shared = self._shardings(self.prepare(states, *args))
        return jax.device_put(states, own), *(jax.device_put(each, shared) for each in args)

    def _prepare(self, states: TrainState, args: tuple[Any, ...]) -> tuple[Layout, Jitted]:
        shapes = _shapes((states, args))
        leaves, structure = jax.tree.flatten(shapes)
        key = structure, tuple(leaves)
        if key not in self._prepared:
            self._prepared[key] = self._compile(*shapes)
        return self._prepared[key]

    def _compile(self, states: TrainState, args: tuple[Any, ...]) -> tuple[Layout, Jitted]:
        """Compiles the program with as many members at once as fit."""
        members = count_members(states)
        most = self._members_per_chunk or members
        while True:
            layout = Layout.of(members, len(self._devices), most)
            program, (own, shared) = self._program(layout, len(args)), self._shardings(layout)
            try:
                # With the shardings of the arrays of a call, so that the call finds the compiled program.
                compiled = program.lower(_shapes(states, own), *_shapes(args, shared)).compile()
            except jax.errors.JaxRuntimeError as error:
                # Some compilers refuse a program that does not fit their device.
                if not shortage(error) or layout.members_per_chunk == 1:
                    raise
                most = layout.members_per_chunk // 2
                continue
            needed = bytes_needed(compiled)
            free = bytes_free(self._devices[: layout.devices]) if self._memory is None else self._memory
            if self._members_per_chunk is not None or needed <= free:
                return layout, program
            if layout.members_per_chunk == 1:
                raise ValueError(
                    f"memory: expected at least {readable(needed)} on a device, for one member at a time, got "
                    f"{readable(free)}; train fewer members, or with smaller batches, also in evaluation."
                )
            # The need grows at most in proportion to the members of a chunk.
            fitting = int(layout.members_per_chunk * free / needed)
            most = max(1, min(fitting, layout.members_per_chunk - 1))

    def _program(self, layout: Layout, n: int) -> Jitted:
        own, shared = self._shardings(layout)
        return jit(
            partial(_run, self._function, layout, self._mesh(layout)),
            compiler_options=self._options,
            donate_argnums=0,
            in_shardings=(own, *[shared] * n),
            out_shardings=(own, own),
        )

    def _shardings(self, layout: Layout) -> tuple[NamedSharding, NamedSharding]:
        """Returns the shardings of stacked and of shared arrays."""
        mesh, even = self._mesh(layout), layout.members == layout.devices * layout.each
        whole = NamedSharding(mesh, PartitionSpec())
        return (NamedSharding(mesh, PartitionSpec("members")) if even else whole), whole

    def _mesh(self, layout: Layout) -> Mesh:
        return Mesh(np.array(self._devices[: layout.devices]), ("members",))


def make(
    function: Function,
    *,
    members_per_chunk: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: int | None = None,
    compiler_options: Options | None = None,
) -> Ensemble:
    """Turns a step, an epoch, or another function that trains one state into one program that trains many.

    The function is traced once and mapped over the members by `jax.vmap`: shuffling, augmentation and noise follow from
    each member's key, hyper-parameters are arrays in each member's optimiser state. Every member equals the run trained
    alone, up to rounding, and a member that diverges does not affect the others.

    Each device trains different members, without communication (give several processes different seeds). If not all
    members of a device fit its memory, the program trains them in chunks, one after the other.

    Args:
        function: `(state, *args) -> (state, results)`, for example from `make_step` or `make_epoch`, or to evaluate
            `lambda state, data: (state, train.evaluate(state, data, loss_fn))`. All members share `args`.
        members_per_chunk: Number of members that a device trains at once. None: all if they fit by the memory of the
            compiled program, otherwise as many as fit.
        devices: The devices; by default all of this process. If their number does not divide the number of members,
            copies fill the gap and are dropped after training, and every device holds all states.
        memory: Bytes that a device may use besides states and data; by default its free memory.
        compiler_options: As for `make_step`; by default those of `function`.

    Returns:
        `(states, *args) -> (states, results)`; states are **donated**, results have a leading axis of members.

    Raises:
        ValueError: If `members_per_chunk` or `memory` is not positive or `devices` is empty; when called, if
            states are not stacked or not even one member fits.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> x = jax.random.normal(jax.random.key(1), (100, 2))
        >>> data = x, x @ jnp.array([1.0, -2.0])
        >>> states = train.ensemble.create(
        ...     lambda key: jax.random.normal(key, (2,)),
        ...     optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
        ...     train.ensemble.grid(learning_rate=[0.001, 0.2, 1000.0], seed=range(2)),
        ... )
        >>> epoch = train.ensemble.make(train.make_epoch(train.make_step(loss_fn), batch_size=10))
        >>> states, metrics = epoch(states, data)
        >>> metrics["loss"].shape
        (6, 10)
        >>> [round(float(w), 1) for w in train.ensemble.member(states, 3).params]
        [1.0, -2.0]
    """
    if members_per_chunk is not None:
        members_per_chunk = check_count("members_per_chunk", members_per_chunk)
    if memory is not None:
        memory = check_count("memory", memory)
    if devices is not None and not len(devices):
        raise ValueError("devices: expected at least one, got none; None takes all.")
    return Ensemble(function, members_per_chunk, devices, memory, compiler_options)


def _run(function: Function, layout: Layout, mesh: Mesh, states: TrainState, *args: Any) -> tuple[TrainState, Any]:
    """Trains all members."""
    states = _filled(states, layout.devices * layout.each)
    # By `shard_map`, not by the partitioner: each device runs the program of a single one, without communication.
    sharded = jax.shard_map(
        partial(_on_a_device, function, layout),
        mesh=mesh,
        in_specs=(PartitionSpec("members"), *[PartitionSpec()] * len(args)),
        out_specs=PartitionSpec("members"),
        check_vma=False,  # it would require every loop in a model or an optimiser to know the mesh
    )
    return jax.tree.map(lambda x: x[: layout.members], sharded(states, *args))


def _on_a_device(function: Function, layout: Layout, states: TrainState, *args: Any) -> tuple[TrainState, Any]:
    """Trains the members of a device, chunk by chunk."""
    if layout.chunks == 1:
        return _at_once(function, layout.members_per_chunk, states, *args)
    size, chunks = layout.members_per_chunk, layout.chunks

    def body(states: TrainState, number: jax.Array) -> tuple[TrainState, Any]:
        some = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, number * size, size), states)
        some, results = _at_once(function, size, some, *args)
        put = partial(lax.dynamic_update_slice_in_dim, start_index=number * size, axis=0)
        return jax.tree.map(put, states, some), results

    # The states are carried, so that each chunk is updated in place.
    states, results = lax.scan(body, _filled(states, chunks * size), jnp.arange(chunks))
    results = jax.tree.map(lambda x: x.reshape(chunks * size, *x.shape[2:]), results)
    return jax.tree.map(lambda x: x[: layout.each], (states, results))


def _at_once(function: Function, size: int, states: TrainState, *args: Any) -> tuple[TrainState, Any]:
    """Trains a chunk of members by `vmap`; a single member without it, which is faster."""

    def checked(state: TrainState, *args: Any) -> tuple[TrainState, Any]:
        result = function(state, *args)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], TrainState):
            raise ValueError(f"function: expected (state, results) from it, got a {type(result).__name__}")
        return result

    if size > 1:
        return jax.vmap(checked, in_axes=(0, *[None] * len(args)))(states, *args)
    alone = checked(jax.tree.map(lambda x: x[0], states), *args)
    return jax.tree.map(lambda x: x[None], alone)


def _shapes(tree: Any, sharding: NamedSharding | None = None) -> Any:
    def shape(x: Any) -> jax.ShapeDtypeStruct:
        weak = getattr(x, "weak_type", type(x) in (int, float, complex))
        return jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x), sharding=sharding, weak_type=weak)

    return jax.tree.map(shape, tree)


def _filled(states: TrainState, n: int) -> TrainState:
    """Fills the states up to `n` members by repeating the first ones."""
    members = states.step.shape[0]
    if members == n:
        return states
    return jax.tree.map(lambda x: x[np.arange(n) % members], states)
