"""Losses of sequences: the loss of each step, averaged over the steps that count."""

import dataclasses
from typing import get_args

from jaxnn.train.losses.classification import classification
from jaxnn.train.losses.fields import Place
from jaxnn.train.losses.supervised import Per, Steps, Supervised
from jaxnn.train.losses.types import LossFn


def sequence(
    loss: LossFn | None = None,
    *,
    lengths: Place | None = None,
    mask: Place | None = None,
    per: Per = "step",
) -> LossFn:
    r"""Makes a loss of sequences, step by step, from a loss of single targets.

    With the losses :math:`\ell_{it}` of the steps and :math:`m_{it}`, 1 where a step counts and 0 elsewhere, the mean
    over a batch, a set or an epoch is exactly

    .. math::

        \frac{\sum_{it} m_{it} \ell_{it}}{\sum_{it} m_{it}} \quad \text{(per step)} \qquad \text{or} \qquad
        \frac{1}{\lvert \{i : \sum_t m_{it} > 0\} \rvert} \sum_i
        \frac{\sum_t m_{it} \ell_{it}}{\max(1, \sum_t m_{it})} \quad \text{(per sequence)}

    however sequences are batched. Metrics are averaged in the same way. A step that does not count adds nothing to loss
    or metrics and has zero gradient, even if outputs or targets are NaN there.

    Args:
        loss: From `losses.classification` (the default), `losses.regression`, `losses.quantile` or `losses.binary`; it
            says where inputs and targets are and how the model is called. A model that takes lengths gets them by
            `apply_fn=lambda model, batch: model(batch["x"], lengths=batch["lengths"])`.
        lengths: Key, attribute or position in the batch of the lengths, integers `(batch,)`: the first steps count.
        mask: Key, attribute or position of a mask, bools `(batch, time)`: the steps where it is True count. By default
            the batch's `lengths`, `length` or `mask`; without any all steps count.
        per: `step`: every step counts once. `sequence`: every sequence with at least one step counts once.

    Returns:
        `(model, batch, key) -> (losses, metrics)`, all `(batch,)`: means over the steps of each sequence, and the
        metric `examples`, the weight of each sequence. Labels are `(batch, time)` for logits `(batch, time, classes)`,
        targets `(batch, time, ...)` for outputs of that shape.

    Raises:
        ValueError: If both `lengths` and `mask` are given, `per` is unknown or `loss` is of another kind, or, while
            tracing, if shapes or dtypes do not fit, or the batch does not show where its parts are.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> batch = {"x": jnp.array([[1.0, 2.0], [3.0, jnp.nan]]), "y": jnp.zeros((2, 2)), "lengths": jnp.array([2, 1])}
        >>> losses, metrics = train.losses.sequence(train.losses.regression())(lambda x: x, batch, None)
        >>> losses.tolist(), metrics["examples"].tolist()
        ([2.5, 9.0], [1.0, 0.5])
    """
    if lengths is not None and mask is not None:
        raise ValueError(f"lengths: expected lengths or a mask, got both {lengths!r} and mask={mask!r}; leave one out.")
    if per not in get_args(Per):
        raise ValueError(f"per: expected 'step' or 'sequence', got {per!r}")
    loss = classification() if loss is None else loss
    if not isinstance(loss, Supervised) or loss.steps is not None:
        raise ValueError(
            "loss: expected one that losses.classification, losses.regression, losses.quantile or losses.binary made, "
            f"got {type(loss).__name__}; your own loss function averages over steps itself, and returns a metric "
            "'examples', the number of steps of each sequence, as its weight."
        )
    return dataclasses.replace(loss, steps=Steps(lengths, mask, per))
