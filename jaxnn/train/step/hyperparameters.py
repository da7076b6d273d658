"""Hyper-parameters that an optimiser keeps as arrays in its state (`optax.inject_hyperparams`)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax


def hyperparameters(opt_state: Any) -> dict[str, Any]:
    """Returns the injected hyper-parameters of an optimiser's state that can be set, by name.

    Those that follow a schedule are left out: the optimiser computes them anew in each step.

    Args:
        opt_state: An optimiser's state, stacked or not.

    Returns:
        Arrays by name; empty if there are none.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from jaxnn.train.step.hyperparameters import hyperparameters
        >>> tx = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
        >>> sorted(hyperparameters(tx.init(jnp.ones(2)))), hyperparameters(optax.sgd(0.1).init(jnp.ones(2)))
        (['learning_rate'], {})
    """
    found: dict[str, Any] = {}
    for injected in _injected(opt_state):
        found |= {name: v for name, v in injected.hyperparams.items() if name not in injected.hyperparams_states}
    return found


def with_hyperparameters(opt_state: Any, values: Mapping[str, jax.Array], argument: str = "values") -> Any:
    """Sets injected hyper-parameters.

    Args:
        opt_state: An optimiser's state.
        values: New values by name.
        argument: Name of `values` in an error.

    Returns:
        The optimiser's state with these values, in the dtypes of the replaced ones; but floats replace integers as
        floats, since Optax makes an integer of `weight_decay=0`.

    Raises:
        ValueError: If the optimiser has no such hyper-parameter, several of one name, or schedules it.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from jaxnn.train.step.hyperparameters import hyperparameters, with_hyperparameters
        >>> tx = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
        >>> changed = with_hyperparameters(tx.init(jnp.ones(2)), {"learning_rate": jnp.float32(0.5)})
        >>> float(hyperparameters(changed)["learning_rate"])
        0.5
    """
    available, scheduled = hyperparameters(opt_state), set[str]()
    for injected in _injected(opt_state):
        scheduled |= set(injected.hyperparams_states)
    for name in values:
        if name in available:
            parts = sum(name in injected.hyperparams for injected in _injected(opt_state))
            if parts > 1:  # of `optax.multi_transform`, for example
                raise ValueError(
                    f"{argument}: expected hyper-parameters that one part of tx has, got {name}, which {parts} parts "
                    "have; give each another name: optax.inject_hyperparams(lambda head_rate: optax.adam(head_rate))"
                    "(head_rate=...)."
                )
            continue
        if name in scheduled:
            raise ValueError(
                f"{argument}: expected hyper-parameters that tx does not schedule, got {name}; give the optimiser a "
                "number, or use train.optimizer(..., schedule=...), whose highest learning rate may vary."
            )
        if not available:
            raise ValueError(
                f"{argument}: expected tx with injected hyper-parameters, got one without {name}; use train.optimizer, "
                f"or optax.inject_hyperparams(optax.adam)({name}=...) instead of optax.adam({name}=...)."
            )
        raise ValueError(f"{argument}: expected hyper-parameters of tx, {', '.join(sorted(available))}, got {name}")

    def put(node: Any) -> Any:
        if not _is_injected(node):
            return node
        hyperparams = {
            name: values[name].astype(_dtype(old, values[name])) if name in values else old
            for name, old in node.hyperparams.items()
        }
        return node._replace(hyperparams=hyperparams)

    return jax.tree.map(put, opt_state, is_leaf=_is_injected)


def _dtype(old: Any, new: jax.Array) -> Any:
    """The dtype of a hyper-parameter's new value: never an integer for a float."""
    kept, is_float = jnp.result_type(old), jnp.issubdtype(new.dtype, jnp.inexact)
    return new.dtype if is_float and not jnp.issubdtype(kept, jnp.inexact) else kept


def _is_injected(node: Any) -> bool:
    return isinstance(node, optax.InjectStatefulHyperparamsState)


def _injected(opt_state: Any) -> list[Any]:
    return [node for node in jax.tree.leaves(opt_state, is_leaf=_is_injected) if _is_injected(node)]
