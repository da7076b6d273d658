"""The members of an ensemble: a table of their differences, and their states as one stacked pytree."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn.keys import is_key
from jaxnn.train.step.hyperparameters import with_hyperparameters
from jaxnn.train.step.loss_scale import LossScale
from jaxnn.train.step.state import TrainState, check_state, create_state
from jaxnn.train.step.trained import Wrt

Init = Callable[[jax.Array], Any]
"""`(key) -> model`: an NNX module, or the pytree of a functional model."""

Table = Mapping[str, Any]
"""A column `seed` and one for each hyper-parameter that varies; one row per member."""


def grid(**axes: Iterable[Any]) -> dict[str, np.ndarray]:
    """Makes a table of every combination of the values: one column per argument, one row per member.

    The last argument varies fastest. `ensemble.create` also takes any other table, for example random columns for
    random search.

    Args:
        **axes: The values of each column, for example `seed=range(16)`.

    Returns:
        Arrays `(members,)` by name.

    Raises:
        ValueError: If there is no argument, or one has no values.

    Example:
        >>> from jaxnn import train
        >>> table = train.ensemble.grid(learning_rate=[1e-3, 1e-2], seed=range(3))
        >>> table["learning_rate"].tolist(), table["seed"].tolist()
        ([0.001, 0.001, 0.001, 0.01, 0.01, 0.01], [0, 1, 2, 0, 1, 2])
    """
    for name, given in axes.items():
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ValueError(f"{name}: expected the values of a column, got {given!r}; write [{given!r}].")
    values = {name: list(each) for name, each in axes.items()}
    if not values:
        raise ValueError("axes: expected at least one, for example seed=range(16), got none")
    for name, each in values.items():
        if not each:
            raise ValueError(f"{name}: expected at least one value, got none")
        _check_no_keys(name, each)
    rows = list(itertools.product(*values.values()))
    return {name: np.asarray(column) for name, column in zip(values, zip(*rows, strict=True), strict=True)}


def create(
    init: Init,
    tx: optax.GradientTransformation,
    members: Table,
    *,
    wrt: Wrt | None = None,
    ema: float | None = None,
    loss_scale: LossScale | None = None,
) -> TrainState:
    """Makes the states of many training runs, stacked: each array of a `TrainState` has a leading axis of members.

    Member `i` is `create_state(init(key), tx, key)` for `key = jax.random.key(seed[i])`, with the hyper-parameters of
    row `i` instead of those of `tx`. Hyper-parameters are arrays in the optimiser's state (`optax.inject_hyperparams`),
    so other values do not recompile. One compiled program initialises all members.

    Args:
        init: `(key) -> model`, for example `lambda key: models.LeNet((8, 8, 1), rngs=nnx.Rngs(key))`.
        tx: An Optax optimiser, for example `train.optimizer(...)`, whose learning rate and weight decay may vary.
        members: From `grid`, or any mapping of columns of the same length: `seed`, and hyper-parameters of
            `tx` by name.
        wrt: As for `create_state`: which parameters to train.
        ema: As for `create_state`: the decay of the moving average of each member's parameters.
        loss_scale: As for `create_state`; each member adjusts its own.

    Returns:
        The stacked states. `train.ensemble.member` takes one out.

    Raises:
        ValueError: If a column is not a list of finite numbers, a learning rate is not positive, lengths differ, a seed
            is not an integer from 0 to 2**32 - 1, or `tx` lacks the hyper-parameter, schedules it, or has several of
            that name.

    Example:
        >>> from flax import nnx
        >>> from jaxnn import models, train
        >>> states = train.ensemble.create(
        ...     lambda key: models.MLP((4, 8, 3), rngs=nnx.Rngs(key)),
        ...     train.optimizer("adam", steps=100),
        ...     train.ensemble.grid(learning_rate=[1e-3, 1e-2], seed=range(3)),
        ... )
        >>> states.params["layers"][0]["kernel"].shape
        (6, 4, 8)
        >>> [round(float(rate), 4) for rate in states.opt_state.hyperparams["learning_rate"]]
        [0.001, 0.001, 0.001, 0.01, 0.01, 0.01]
    """
    seeds, varied = _checked(members)

    @jax.jit
    @jax.vmap
    def one(key: jax.Array, values: dict[str, jax.Array]) -> TrainState:
        state = create_state(init(key), tx, key, wrt=wrt, ema=ema, loss_scale=loss_scale)
        if not values:
            return state
        return dataclasses.replace(state, opt_state=with_hyperparameters(state.opt_state, values, "members"))

    return one(jnp.stack([jax.random.key(seed) for seed in seeds]), varied)


def count_members(states: TrainState) -> int:
    """Counts the members of stacked states; raises if it is the state of one run."""
    check_state(states, "states")
    if jnp.ndim(states.step) != 1:
        shape = jnp.shape(states.step)
        raise ValueError(f"states: expected stacked ones, as train.ensemble.create makes, got a step of shape {shape}")
    return int(states.step.shape[0])


def member(states: TrainState, index: int) -> TrainState:
    """Returns the state of one member, an ordinary `TrainState`.

    Args:
        states: Stacked states, from `ensemble.create` or after training; not changed.
        index: Number of the member, from 0; negative numbers count from the end.

    Returns:
        Its state, copied.

    Raises:
        ValueError: If there is no such member.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> states = train.ensemble.create(
        ...     lambda key: jax.random.normal(key, (3,)), optax.sgd(0.1), {"seed": [7, 8]})
        >>> alone = train.create_state(
        ...     jax.random.normal(jax.random.key(8), (3,)), optax.sgd(0.1), jax.random.key(8))
        >>> bool(jnp.allclose(train.ensemble.member(states, 1).params, alone.params))
        True
    """
    n = count_members(states)
    if not -n <= index < n:
        raise ValueError(f"index: expected a number of the {n} members, from 0, got {index}")
    return jax.tree.map(lambda x: x[index], states)


def _checked(members: Table) -> tuple[list[int], dict[str, jax.Array]]:
    """Reads the seeds, and the other columns as arrays of float32 or int32."""
    if not hasattr(members, "items"):
        raise ValueError(f"members: expected columns by name, got {members!r}; train.ensemble.grid makes them.")
    if "seed" not in members:
        raise ValueError(f"members: expected a column 'seed', got {', '.join(members) or 'no column'}")
    columns = {name: _column(name, values) for name, values in members.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or not lengths["seed"]:
        raise ValueError(f"members: expected columns of one length, at least 1, got lengths {lengths}")
    seeds = columns.pop("seed")
    if seeds.dtype.kind not in "iu" or ((seeds < 0) | (seeds >= 2**32)).any():  # `jax.random.key` drops higher bits
        raise ValueError(f"members: expected seed to hold integers from 0 to 2**32 - 1, got {_some(seeds)}")
    for name, column in columns.items():
        largest = np.finfo(np.float32).max if column.dtype.kind == "f" else np.iinfo(np.int32).max
        what, right = f"finite numbers up to {largest:.2g}", np.abs(column) <= largest
        if name == "learning_rate":
            what, right = "positive numbers", right & (column > 0)
        if not right.all():
            raise ValueError(f"members: expected {name} to hold {what}, got {column[~right][0]}")
    kinds = {"f": jnp.float32, "i": jnp.int32, "u": jnp.int32}
    return [int(seed) for seed in seeds], {name: jnp.asarray(c, kinds[c.dtype.kind]) for name, c in columns.items()}


def _column(name: str, values: Sequence[Any]) -> np.ndarray:
    _check_no_keys(f"members: {name}", values)
    column = np.asarray(list(values))
    if column.ndim != 1 or (column.size and column.dtype.kind not in "iuf"):
        raise ValueError(f"members: expected {name} to hold numbers, one per member, got {_some(column)}")
    return column


def _check_no_keys(name: str, values: Iterable[Any]) -> None:
    """Raises if values are random keys instead of seeds."""
    if any(map(is_key, values)):
        raise ValueError(f"{name}: expected numbers, got random keys; give seeds, which keys are made of: range(16).")


def _some(column: np.ndarray) -> str:
    return np.array2string(column, threshold=6)
