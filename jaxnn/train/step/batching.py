"""Batches of equal size for any number of examples, and means that leave padding examples out."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from jaxnn.counts import check_count
from jaxnn.train.losses.types import Metrics
from jaxnn.train.step.expected import check_examples


def count(data: Any, name: str = "data") -> int:
    """Counts the examples: the leading length that all arrays of `data` share; raises if there is none."""
    check_examples(data, name)
    if (n := _shared_length(data)) is None:
        leaves = jax.tree_util.tree_leaves_with_path(data)
        lengths = {f"{name}{jax.tree_util.keystr(path)}": jnp.shape(leaf)[:1] for path, leaf in leaves}
        raise ValueError(
            f"{name}: expected arrays that share one leading length, the number of examples, got {_told(lengths)}"
        )
    if n == 0:
        raise ValueError(f"{name}: expected at least one example, got none (leading length 0)")
    return n


def _shared_length(data: Any) -> int | None:
    """The leading length that all arrays of `data` share, or None."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    return None if len(lengths) != 1 or () in lengths else int(lengths.pop()[0])


def _told(lengths: dict[str, tuple[int, ...]]) -> str:
    """Lists the leading length of each array; of more than eight arrays, one array for each length."""
    if len(lengths) > 8:
        first: dict[tuple[int, ...], str] = {}
        for leaf, shape in lengths.items():
            first.setdefault(shape, leaf)
        lengths = {leaf: shape for shape, leaf in first.items()}
    told = ", ".join(f"{leaf}: {shape}" for leaf, shape in lengths.items()) or "no array"
    if () in lengths.values():
        told += "; () is a number alone: make arrays of lists with np.asarray, and repeat a number for every example."
    return told


Reduction = Literal["examples", "batch"]
"""Whether a loss function returns a loss for each example, or one for the whole batch."""


def steps(n: int, batch_size: int, drop_last: bool = False, name: str = "batch_size") -> int:
    """Counts the batches of `n` examples, or only the full ones; raises if there is none."""
    batch_size = check_count(name, batch_size)
    if drop_last and n < batch_size:
        raise ValueError(f"{name}: expected at most {n}, the number of examples, with drop_last=True, got {batch_size}")
    return n // batch_size if drop_last else -(-n // batch_size)


def positions(step: jax.Array, n: int, batch_size: int, drop_last: bool = False) -> tuple[jax.Array, jax.Array | None]:
    """Returns which of the positions 0 to n - 1 batch number `step` holds, `(batch_size,)`, and their weights.

    Over all batches each position occurs once with weight 1. A short last batch is padded with the first positions,
    repeated if needed, with weight 0. The weights are None if all batches are full, as with `drop_last`.
    """
    flat = step * batch_size + jnp.arange(batch_size, dtype=step.dtype)
    if drop_last or n % batch_size == 0:
        return flat, None
    return flat % n, (flat < n).astype(jnp.float32)


def placed(data: Any) -> Any:
    """The arrays on the device. They are meant to go there, so `jax.transfer_guard` does not forbid it."""
    with jax.transfer_guard_host_to_device("allow"):
        return jax.tree.map(jnp.asarray, data)


def take(data: Any, index: jax.Array) -> Any:
    """Takes the examples at `index` of every array in `data`; indices are in bounds by construction."""
    return jax.tree.map(lambda x: jnp.asarray(x).at[index].get(mode="promise_in_bounds"), data)


def check_weights(weights: jax.Array | None, batch: Any) -> int:
    """Counts the examples of a batch; raises unless there is a weight for each, or none at all."""
    try:
        n = count(batch, "batch")
    except ValueError as error:
        error.add_note(
            'If its parts have different lengths, take a loss of the whole batch: make_step(reduction="batch").'
        )
        raise
    if weights is not None and jnp.shape(weights) != (n,):
        raise ValueError(
            f"weights: expected one for each example of the batch, shape {(n,)}, got {jnp.shape(weights)}; where "
            "preprocess changes the number of examples, take a batch_size that divides theirs, or drop_last=True."
        )
    return n


def per_example(losses: Any, metrics: Any, batch: Any) -> tuple[Metrics, jax.Array | None]:
    """Checks losses and metrics; returns them as one dictionary of float `(batch,)`, and the weight of each example.

    The weights are None if the loss function returns none; then every example counts once.
    """
    n, values = count(batch, "batch"), _named(losses, metrics)
    for name, value in values.items():
        if jnp.shape(value) != (n,):
            raise ValueError(
                f"loss_fn: expected {_named_as(name)} for each example, shape {(n,)}, got {jnp.shape(value)}; do not "
                "average over the batch (the step does, and leaves filled-up examples out), or pass "
                'reduction="batch" for a loss that the batch has as a whole.'
            )
    found = {name: _at_least_float32(value) for name, value in values.items()}
    counted = found.pop("examples", None)
    return found, None if counted is None else counted.astype(jnp.float32)


def whole_batch(loss: Any, metrics: Any, batch: Any) -> Metrics:
    """A loss and metrics of a whole batch as one dictionary of floats `()`, checked; `examples` is its weight.

    That is the number of examples by default, and 1 for a batch of arrays that share no leading length.
    """
    n, values = _shared_length(batch), _named(loss, metrics)
    for name, value in values.items():
        shapes: tuple[tuple[int, ...], ...] = ((),) if n is None or name in ("loss", "examples") else ((), (n,))
        if jnp.shape(value) not in shapes:
            raise ValueError(
                f'loss_fn: expected {_named_as(name)} of shape {" or ".join(map(str, shapes))} with reduction="batch", '
                f"got {jnp.shape(value)}; leave reduction out for losses of each example."
            )
    found = {name: jnp.mean(_at_least_float32(value)) for name, value in values.items()}
    return {"examples": jnp.float32(1 if n is None else n)} | found


def check_reduction(reduction: Reduction, weights: Any = None) -> None:
    """Raises if `reduction` is unknown, or a loss of the whole batch has weights."""
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction: expected 'examples' or 'batch', got {reduction!r}")
    if reduction == "batch" and weights is not None:
        raise ValueError(
            'weights: expected None with reduction="batch", got weights, as for a short last batch, which is filled up '
            "with examples of weight 0: a loss of the whole batch cannot leave them out; pass drop_last=True, or a "
            "batch_size that divides the number of examples."
        )


def _named(losses: Any, metrics: Any) -> dict[str, Any]:
    if not isinstance(metrics, dict):
        raise ValueError(f"loss_fn: expected (losses, metrics) with a dict of metrics, got a {type(metrics).__name__}")
    if taken := RESERVED.intersection(metrics):
        raise ValueError(
            f"loss_fn: expected metrics not named {sorted(RESERVED)}, got {sorted(taken)}; choose other names."
        )
    if wrong := [name for name in metrics if not isinstance(name, str)]:
        raise ValueError(
            f"loss_fn: expected names of metrics that are strings, got {wrong[0]!r}; write {str(wrong[0])!r}."
        )
    values = {"loss": losses, **metrics}
    for name, value in values.items():
        if not jax.tree_util.all_leaves([value]):
            raise ValueError(
                f"loss_fn: expected arrays, got a {type(value).__name__} as {name}; return each part of it as a metric."
            )
    return values


def _named_as(name: str) -> str:
    return "a loss" if name == "loss" else f"a metric {name!r}"


RESERVED = frozenset({"loss", "penalty", "grad_norm", "loss_scale", "skipped"})


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
