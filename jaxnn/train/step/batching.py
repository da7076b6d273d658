"""Equal batches of any number of examples, and means in which filled-up examples do not count."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.counts import check_count

Metrics = dict[str, jax.Array]


def count(data: Any, name: str = "data") -> int:
    """Counts the examples: the leading length that all arrays of `data` share.

    Raises:
        ValueError: If there are no arrays or no examples, or the lengths differ.
    """
    leaves = jax.tree_util.tree_leaves_with_path(data)
    lengths = {f"{name}{jax.tree_util.keystr(path)}": jnp.shape(leaf)[:1] for path, leaf in leaves}
    if not lengths or () in lengths.values() or len(set(lengths.values())) > 1:
        raise ValueError(
            f"{name}: expected arrays that share one leading length, the number of examples, got "
            + (", ".join(f"{leaf}: {shape}" for leaf, shape in lengths.items()) or "no array")
        )
    (n,) = next(iter(lengths.values()))
    if n == 0:
        raise ValueError(f"{name}: expected at least one example, got none (leading length 0)")
    return int(n)


def steps(n: int, batch_size: int) -> int:
    """Counts the batches that hold `n` examples.

    Raises:
        ValueError: If `batch_size` is not a positive integer.
    """
    return -(-n // check_count("batch_size", batch_size))


def positions(step: jax.Array, n: int, batch_size: int) -> tuple[jax.Array, jax.Array | None]:
    """Returns the positions, of 0 to n - 1, in batch number `step`, `(batch_size,)`, and their weights.

    Over all batches each position occurs once with weight 1. A short last batch is filled up with positions from 0 on,
    of weight 0. The weights are None if no batch is short.
    """
    flat = step * batch_size + jnp.arange(batch_size)
    if n % batch_size == 0:
        return flat, None
    return flat % n, (flat < n).astype(jnp.float32)


def take(data: Any, index: jax.Array) -> Any:
    """Takes the examples at `index` of every array in `data`; indices are in bounds by construction."""
    return jax.tree.map(lambda x: x.at[index].get(mode="promise_in_bounds"), data)


def per_example(losses: Any, metrics: Any, batch: Any) -> tuple[Metrics, jax.Array | None]:
    """Checks losses and metrics; returns them as one dictionary of float `(batch,)`, and the weight of each example.

    The weights are None if the loss function returns none; then every example counts once.

    Raises:
        ValueError: If one of them is not one number per example.
    """
    n = count(batch, "batch")
    if not isinstance(metrics, dict):
        raise ValueError(f"loss_fn: expected (losses, metrics) with a dict of metrics, got a {type(metrics).__name__}")
    if taken := RESERVED.intersection(metrics):
        raise ValueError(
            f"loss_fn: expected metrics not named {sorted(RESERVED)}, got {sorted(taken)}; choose other names."
        )
    values = {"loss": losses, **metrics}
    for name, value in values.items():
        if jnp.shape(value) != (n,):
            raise ValueError(
                f"loss_fn: expected {name} to be one number per example, shape {(n,)}, got {jnp.shape(value)}; "
                "do not average over the batch: the step does, without filled-up examples."
            )
    found = {name: _at_least_float32(value) for name, value in values.items()}
    counted = found.pop("examples", None)
    return found, None if counted is None else counted.astype(jnp.float32)


RESERVED = frozenset({"loss", "penalty", "grad_norm"})


def both(weights: jax.Array | None, counted: jax.Array | None) -> jax.Array | None:
    """Multiplies two weights per example; None is all ones."""
    if weights is None or counted is None:
        return counted if weights is None else weights
    return weights * counted


def weighted_sums(values: Metrics, weights: jax.Array | None) -> Metrics:
    """Sums over the batch, `(batch,) -> ()`; an example of weight 0 adds nothing, also if it is NaN."""
    if weights is None:
        return {name: jnp.sum(value) for name, value in values.items()}
    return {
        name: jnp.sum(jnp.where(weights != 0, value * weights.astype(value.dtype), 0)) for name, value in values.items()
    }


def weighted_means(values: Metrics, weights: jax.Array | None) -> Metrics:
    r"""Averages over the batch, :math:`\sum_i w_i x_i / \sum_i w_i`, `(batch,) -> ()`; 0 if all weights are 0."""
    sums = weighted_sums(values, weights)
    if weights is None:
        return {name: total / values[name].shape[0] for name, total in sums.items()}
    return {name: total / nonzero(jnp.sum(weights)).astype(total.dtype) for name, total in sums.items()}


def nonzero(x: jax.Array) -> jax.Array:
    """Replaces a sum of weights of 0 by 1, to divide by it."""
    return jnp.where(x == 0, jnp.ones_like(x), x)


def _at_least_float32(x: Any) -> jax.Array:
    x = jnp.asarray(x)
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)
