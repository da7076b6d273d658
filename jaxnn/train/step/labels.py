"""Labels that are not classes, found on the host before training starts."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.train.step.losses import Classification
from jaxnn.train.step.state import TrainState, apply
from jaxnn.train.step.step import LossFn, Preprocess


class LabelCheck:
    """Checks that labels are classes for which the model has a logit.

    It checks labels of `classification_loss` that preprocessing does not change. Other labels are not checked; there a
    label that is not a class gives a loss of NaN.
    """

    def __init__(self, state: TrainState, loss_fn: LossFn, preprocess: Preprocess | None, batch_size: int) -> None:
        self._loss_fn, self._preprocess, self._batch_size = loss_fn, preprocess, batch_size
        self._state = jax.tree.map(_shape, state)

    def __call__(self, data: Any, name: str = "data", numbers: np.ndarray | None = None) -> None:
        """Raises if a label is not a class, or if all labels are ignored.

        Args:
            data: A data set or a batch, a pytree of arrays.
            name: Name of the data, for the message.
            numbers: Numbers of the examples in a batch.

        Raises:
            ValueError: If so; the message names the value and its position.
        """
        labels = getattr(data, "labels", None)
        if not isinstance(self._loss_fn, Classification) or not _is_readable(labels):
            return
        kept, classes = self._classes(data)
        if not kept or classes is None:
            return
        table, ignored = np.asarray(labels), self._loss_fn.ignore_label
        if fault := wrong(table, classes, ignored, numbers):
            raise ValueError(f"{name}.labels: {fault}")
        if numbers is None and ignored is not None and (table == ignored).all():
            raise ValueError(f"{name}.labels: expected at least one that is not ignore_label={ignored}, got none")

    @property
    def knows(self) -> bool:
        """Whether the labels of the loss function can be checked."""
        return isinstance(self._loss_fn, Classification)

    def found(self, data: Any, numbers: np.ndarray | None = None) -> str:
        """Describes wrong labels in data whose loss is not finite, as the loss function saw them."""
        if not isinstance(self._loss_fn, Classification):
            return ""
        made = data
        if self._preprocess is not None:
            made = jax.jit(partial(self._preprocess, None))(data)
        labels = getattr(made, "labels", None)
        classes = self._classes(data)[1]
        if not _is_readable(labels) or classes is None:
            return ""
        return wrong(np.asarray(labels), classes, self._loss_fn.ignore_label, numbers)

    def _classes(self, data: Any) -> tuple[bool, int | None]:
        """Returns whether preprocessing keeps the labels, and the number of logits of the model."""
        some = jax.tree.map(lambda x: _shape(x, self._batch_size), data)
        ((kept, logits),) = jax.eval_shape(partial(_logits, preprocess=self._preprocess), self._state, some).items()
        known = isinstance(logits, jax.ShapeDtypeStruct) and logits.ndim > 1
        return kept == "kept", int(logits.shape[-1]) if known else None


def wrong(labels: np.ndarray, classes: int, ignore_label: int | None, numbers: np.ndarray | None = None) -> str:
    """Describes the first label that is not a class, with its position; empty if all are classes.

    Args:
        labels: Integers `(examples, *positions)`.
        classes: Number of classes.
        ignore_label: A value for ignored labels.
        numbers: Numbers of the examples; 0, 1, ... by default.

    Example:
        >>> import numpy as np
        >>> from jaxnn.train.step.labels import wrong
        >>> wrong(np.array([0, 3, -1]), 3, ignore_label=-1)[:59]
        'expected class numbers 0..2, got 3 at position 1 (1 of 3); '
    """
    if labels.dtype.kind not in "iu":
        return ""  # the loss function reports that
    bad = (labels < 0) | (labels >= classes)
    if ignore_label is not None:
        bad &= labels != ignore_label
    if not bad.any():
        return ""
    first = np.unravel_index(bad.argmax(), bad.shape)
    place = [int(first[0] if numbers is None else numbers[first[0]]), *map(int, first[1:])]
    return (
        f"expected class numbers 0..{classes - 1}, got {labels[first]} at position {', '.join(map(str, place))} "
        f"({bad.sum():,} of {bad.size:,}); count classes from 0 and give the model one logit per class, or leave a "
        "value out with classification_loss(ignore_label=...)."
    )


@partial(jax.jit, static_argnames="preprocess")
def _logits(state: TrainState, batch: Any, preprocess: Preprocess | None) -> dict[str, Any]:
    """Returns the logits under a name that says whether the labels are the stored ones; only traced."""
    made = batch if preprocess is None else preprocess(None, batch)
    logits, _ = apply(state, state.params, lambda model: model(made.images), training=False)
    return {"kept" if made.labels is getattr(batch, "labels", None) else "made": logits}


def _shape(x: Any, length: int | None = None) -> jax.ShapeDtypeStruct:
    shape = jnp.shape(x) if length is None else (length, *jnp.shape(x)[1:])
    return jax.ShapeDtypeStruct(shape, x.dtype if isinstance(x, jax.Array) else jnp.result_type(x))


def _is_readable(labels: Any) -> bool:
    """Whether this process can read the labels: not while tracing, nor on devices of another process."""
    if labels is None or isinstance(labels, jax.core.Tracer):
        return False
    return not isinstance(labels, jax.Array) or labels.is_fully_addressable or labels.is_fully_replicated
