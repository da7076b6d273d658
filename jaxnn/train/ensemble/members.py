"""The members of an ensemble: a table of their differences, and their states as one stacked pytree."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn.train.step.state import TrainState, create_state

Init = Callable[[jax.Array], Any]
"""`(key) -> model`: an NNX module, or the pytree of a functional model."""

Table = Mapping[str, Any]
"""A column `seed` and one for each hyper-parameter that varies; one row per member."""

# Hyper-parameters that must be positive.
_POSITIVE = frozenset({"learning_rate"})


def grid(**axes: Iterable[Any]) -> dict[str, np.ndarray]:
    """Makes a table of every combination of the values: one column per argument, one row per member.

    The last argument varies fastest. `create_ensemble` takes any other table too: random search is one with random
    columns.

    Args:
        **axes: The values of each column, for example `seed=range(16)`.

    Returns:
        Arrays `(members,)` by name.

    Raises:
        ValueError: If there is no argument, or one has no values.

    Example:
        >>> from jaxnn import train
        >>> table = train.grid(learning_rate=[1e-3, 1e-2], seed=range(3))
        >>> table["learning_rate"].tolist(), table["seed"].tolist()
        ([0.001, 0.001, 0.001, 0.01, 0.01, 0.01], [0, 1, 2, 0, 1, 2])
    """
    values = {name: list(each) for name, each in axes.items()}
    if not values:
        raise ValueError("axes: expected at least one, for example seed=range(16), got none")
    for name, each in values.items():
        if not each:
            raise ValueError(f"{name}: expected at least one value, got none")
    rows = list(itertools.product(*values.values()))
    return {name: np.asarray(column) for name, column in zip(values, zip(*rows, strict=True), strict=True)}


def create_ensemble(init: Init, tx: optax.GradientTransformation, members: Table) -> TrainState:
    """Makes the states of many training runs, stacked: each array of a `TrainState` has a leading axis of members.

    Member `i` is the state that `create_state(init(key), tx, key)` gives for `key = jax.random.key(seed[i])`,
    with the hyper-parameters of row `i` instead of those of `tx`. They are arrays in the optimiser's state
    (`optax.inject_hyperparams`), so other values do not recompile. All members are initialised
    by one compiled program.

    Args:
        init: `(key) -> model`, for example `lambda key: models.LeNet((8, 8, 1), rngs=nnx.Rngs(key))`.
        tx: An Optax optimiser, for example `train.optimizer(...)`, whose learning rate and weight decay may vary.
        members: A table of `grid`, or any mapping of columns of the same length: `seed`, and hyper-parameters of `tx`
            by name.

    Returns:
        The stacked states. `train.member` takes one out.

    Raises:
        ValueError: If a column is not a list of finite numbers, a learning rate is not positive, lengths differ, a seed
            is not an integer, or `tx` does not have the hyper-parameter or schedules it.

    Example:
        >>> from flax import nnx
        >>> from jaxnn import models, train
        >>> states = train.create_ensemble(
        ...     lambda key: models.MLP((4, 8, 3), rngs=nnx.Rngs(key)),
        ...     train.optimizer("adam", steps=100),
        ...     train.grid(learning_rate=[1e-3, 1e-2], seed=range(3)),
        ... )
        >>> states.params["layers"][0]["kernel"].shape
        (6, 4, 8)
        >>> [round(float(rate), 4) for rate in states.opt_state.hyperparams["learning_rate"]]
        [0.001, 0.001, 0.001, 0.01, 0.01, 0.01]
    """
    seeds, varied = _checked(members)

    @jax.jit
    @jax.vmap
    def create(key: jax.Array, values: dict[str, jax.Array]) -> TrainState:
        state = create_state(init(key), tx, key)
        return dataclasses.replace(state, opt_state=_with(state.opt_state, values)) if values else state

    return create(jnp.stack([jax.random.key(seed) for seed in seeds]), varied)


def count_members(states: TrainState) -> int:
    """Counts the members of stacked states.

    Raises:
        ValueError: If it is the state of one run.
    """
    if jnp.ndim(states.step) != 1:
        raise ValueError(
            f"states: expected stacked ones, as train.create_ensemble makes, got a step of shape "
            f"{jnp.shape(states.step)}"
        )
    return int(states.step.shape[0])


def member(states: TrainState, index: int) -> TrainState:
    """Returns the state of one member, an ordinary `TrainState`, to train, to evaluate, or for its `model()`.

    Args:
        states: Stacked states, from `create_ensemble` or after training; they do not change.
        index: Number of the member, from 0; negative numbers count from the end.

    Returns:
        Its state, copied.

    Raises:
        ValueError: If there is no such member.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> states = train.create_ensemble(
        ...     lambda key: jax.random.normal(key, (3,)), optax.sgd(0.1), {"seed": [7, 8]})
        >>> alone = train.create_state(
        ...     jax.random.normal(jax.random.key(8), (3,)), optax.sgd(0.1), jax.random.key(8))
        >>> bool(jnp.allclose(train.member(states, 1).params, alone.params))
        True
    """
    n = count_members(states)
    if not -n <= index < n:
        raise ValueError(f"index: expected a number of the {n} members, from 0, got {index}")
    return jax.tree.map(lambda x: x[index], states)


def hyperparameters(opt_state: Any) -> dict[str, Any]:
    """Returns the injected hyper-parameters of an optimiser's state that can be set, by name.

    Hyper-parameters with a schedule are left out: the optimiser computes them in each step.

    Args:
        opt_state: An optimiser's state, stacked or not.

    Returns:
        Arrays by name.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from jaxnn.train.ensemble.members import hyperparameters
        >>> tx = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
        >>> sorted(hyperparameters(tx.init(jnp.ones(2)))), hyperparameters(optax.sgd(0.1).init(jnp.ones(2)))
        (['learning_rate'], {})
    """
    found: dict[str, Any] = {}
    for injected in _injected(opt_state):
        found |= {name: v for name, v in injected.hyperparams.items() if name not in injected.hyperparams_states}
    return found


def _with(opt_state: Any, values: dict[str, jax.Array]) -> Any:
    """Sets hyper-parameters in an optimiser's state."""
    available, scheduled = hyperparameters(opt_state), set[str]()
    for injected in _injected(opt_state):
        scheduled |= set(injected.hyperparams_states)
    for name in values:
        if name in available:
            continue
        if name in scheduled:
            raise ValueError(
                f"members: expected hyper-parameters that tx does not schedule, got {name}; give the optimiser a "
                "number, or use train.optimizer(..., schedule=...), whose highest learning rate may vary."
            )
        if not available:
            raise ValueError(
                f"members: expected tx with injected hyper-parameters, got one without, so {name} cannot vary; use "
                f"train.optimizer, or optax.inject_hyperparams(optax.adam)({name}=...)."
            )
        raise ValueError(f"members: expected hyper-parameters of tx, {', '.join(sorted(available))}, got {name}")

    def put(node: Any) -> Any:
        if not _is_injected(node):
            return node
        hyperparams = {
            name: values[name].astype(jnp.result_type(old)) if name in values else old
            for name, old in node.hyperparams.items()
        }
        return node._replace(hyperparams=hyperparams)

    return jax.tree.map(put, opt_state, is_leaf=_is_injected)


def _is_injected(node: Any) -> bool:
    return isinstance(node, optax.InjectStatefulHyperparamsState)


def _injected(opt_state: Any) -> list[Any]:
    return [node for node in jax.tree.leaves(opt_state, is_leaf=_is_injected) if _is_injected(node)]


def _checked(members: Table) -> tuple[list[int], dict[str, jax.Array]]:
    """Reads the seeds, and the other columns as float32 arrays."""
    if "seed" not in members:
        raise ValueError(f"members: expected a column 'seed', got {', '.join(members) or 'no column'}")
    columns = {name: _column(name, values) for name, values in members.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or not lengths["seed"]:
        raise ValueError(f"members: expected columns of one length, at least 1, got lengths {lengths}")
    seeds = columns.pop("seed")
    if seeds.dtype.kind not in "iu" or (seeds < 0).any():
        raise ValueError(f"members: expected seed to hold integers that are not negative, got {_some(seeds)}")
    for name, column in columns.items():
        low = column <= 0 if name in _POSITIVE else np.zeros(len(column), bool)
        wrong = ~np.isfinite(column) | low
        if wrong.any():
            what = "positive numbers" if name in _POSITIVE else "finite numbers"
            raise ValueError(f"members: expected {name} to hold {what}, got {column[wrong][0]}")
    return [int(seed) for seed in seeds], {name: jnp.asarray(c, jnp.float32) for name, c in columns.items()}


def _column(name: str, values: Sequence[Any]) -> np.ndarray:
    column = np.asarray(list(values))
    if column.ndim != 1 or (column.size and column.dtype.kind not in "iuf"):
        raise ValueError(f"members: expected {name} to hold numbers, one per member, got {_some(column)}")
    return column


def _some(column: np.ndarray) -> str:
    return np.array2string(column, threshold=6)
