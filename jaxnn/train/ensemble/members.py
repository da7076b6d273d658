"""The members of an ensemble: a table of what they differ in, and their states as one stacked pytree."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn.train.step.state import TrainState, create_state
from jaxnn.train.step.trained import Wrt

Init = Callable[[jax.Array], Any]
"""`(key) -> model`: an NNX module, or the pytree of a functional model."""

Table = Mapping[str, Any]
"""A column `seed` and one for each hyper-parameter that varies; a row a member."""

# Hyper-parameters that an optimiser can only have above zero.
_POSITIVE = frozenset({"learning_rate"})


def grid(**axes: Iterable[Any]) -> dict[str, np.ndarray]:
    """Every combination of the values, as a table: one column an argument, one row a member.

    The last argument varies fastest. Any other table serves `create_ensemble` as well: random search is one
    with random columns.

    Args:
        **axes: The values of each column, such as `seed=range(16)`.

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
        raise ValueError("axes: expected at least one, such as seed=range(16), got none")
    for name, each in values.items():
        if not each:
            raise ValueError(f"{name}: expected at least one value, got none")
    rows = list(itertools.product(*values.values()))
    return {name: np.asarray(column) for name, column in zip(values, zip(*rows, strict=True), strict=True)}


def create_ensemble(
    init: Init,
    tx: optax.GradientTransformation,
    members: Table,
    *,
    wrt: Wrt | None = None,
    ema: float | None = None,
) -> TrainState:
    """Makes the states of many training runs, stacked: each array of a `TrainState` has a leading axis of members.

    Member `i` is the state that `create_state(init(key), tx, key)` gives for `key = jax.random.key(seed[i])`,
    with the hyper-parameters of row `i` in place of those that `tx` was made with. They are arrays in the
    optimiser's state (`optax.inject_hyperparams`): no value of them compiles anew. All members are initialised
    by one compiled program.

    Args:
        init: `(key) -> model`, such as `lambda key: models.LeNet((8, 8, 1), rngs=nnx.Rngs(key))`.
        tx: An Optax optimiser, `train.optimizer(...)` for one whose learning rate and weight decay may vary.
        members: From `grid`, or any mapping of columns of the same length: `seed`, and hyper-parameters of
            `tx` by name.
        wrt: As for `create_state`: which parameters to train.
        ema: As for `create_state`: the decay of a moving average of the parameters, of each member its own.

    Returns:
        The stacked states. `train.member` takes one out.

    Raises:
        ValueError: If a column is no list of finite numbers, a learning rate is not positive, lengths differ,
            a seed is no integer, or `tx` has no such hyper-parameter or has it follow a schedule.

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
        state = create_state(init(key), tx, key, wrt=wrt, ema=ema)
        return dataclasses.replace(state, opt_state=_with(state.opt_state, values)) if values else state

    return create(jnp.stack([jax.random.key(seed) for seed in seeds]), varied)


def count_members(states: TrainState) -> int:
    """How many members the stacked states hold.

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
    """One member's state, an ordinary `TrainState`: go on training with it, evaluate it, `member(...).model()`.

    Args:
        states: Stacked, from `create_ensemble` or after training; they stay whole.
        index: Which one, from 0; negative ones count from the end.

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
        raise ValueError(f"index: there are {n} members, numbered from 0, so there is no {index}")
    return jax.tree.map(lambda x: x[index], states)


def hyperparameters(opt_state: Any) -> dict[str, Any]:
    """The injected hyper-parameters of an optimiser's state that can be set, by name; none where it has none.

    Those that follow a schedule are left out: the optimiser computes them anew in each step.

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
    """The optimiser's state with these hyper-parameters."""
    available, scheduled = hyperparameters(opt_state), set[str]()
    for injected in _injected(opt_state):
        scheduled |= set(injected.hyperparams_states)
    for name in values:
        if name in available:
            continue
        if name in scheduled:
            raise ValueError(
                f"members: {name} follows a schedule in tx, which would overwrite it; give the optimiser a number, "
                "or use train.optimizer(..., schedule=...), whose highest learning rate may vary"
            )
        if not available:
            raise ValueError(
                f"members: {name} cannot vary: tx has no injected hyper-parameters; use train.optimizer, or "
                f"optax.inject_hyperparams(optax.adam)({name}=...) in place of optax.adam({name}=...)"
            )
        raise ValueError(f"members: tx has no hyper-parameter {name}, only {', '.join(sorted(available))}")

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
    """The seeds, and the other columns as float32 arrays."""
    if "seed" not in members:
        raise ValueError(f"members: expected a column 'seed', got {', '.join(members) or 'no column'}")
    columns = {name: _column(name, values) for name, values in members.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or not lengths["seed"]:
        raise ValueError(f"members: expected columns of one length, at least 1, got lengths {lengths}")
    seeds = columns.pop("seed")
    if seeds.dtype.kind not in "iu" or (seeds < 0).any():
        raise ValueError(f"members: seed must hold integers that are not negative, got {_some(seeds)}")
    for name, column in columns.items():
        low = column <= 0 if name in _POSITIVE else np.zeros(len(column), bool)
        wrong = ~np.isfinite(column) | low
        if wrong.any():
            what = "positive numbers" if name in _POSITIVE else "finite numbers"
            raise ValueError(f"members: {name} must hold {what}, got {column[wrong][0]}")
    return [int(seed) for seed in seeds], {name: jnp.asarray(c, jnp.float32) for name, c in columns.items()}


def _column(name: str, values: Sequence[Any]) -> np.ndarray:
    column = np.asarray(list(values))
    if column.ndim != 1 or (column.size and column.dtype.kind not in "iuf"):
        raise ValueError(f"members: {name} must hold numbers, one a member, got {_some(column)}")
    return column


def _some(column: np.ndarray) -> str:
    return np.array2string(column, threshold=6)
