"""Labels and targets that cannot be right, found on the host before training starts."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.train.losses import fields
from jaxnn.train.losses.supervised import Read, Supervised
from jaxnn.train.losses.types import LossFn
from jaxnn.train.step import batching
from jaxnn.train.step.expected import explained_errors
from jaxnn.train.step.state import TrainState, apply, check_state, without_optimizer
from jaxnn.train.step.step import Preprocess


class LabelCheck:
    """Checks that the model has a logit for each label, and that targets of the package's other losses are valid.

    It checks labels that preprocessing does not change. Others, and those of your own loss functions, are not checked:
    a label that is not a class then gives a loss of NaN. The arguments are those of `fit` and `evaluate`; of the state
    only shapes are kept.
    """

    def __init__(self, state: TrainState, loss_fn: LossFn, preprocess: Preprocess | None, batch_size: int) -> None:
        check_state(state)
        self._loss_fn = loss_fn if isinstance(loss_fn, Supervised) else None
        self._preprocess, self._batch_size = preprocess, batch_size
        self._state = jax.tree.map(_shape, without_optimizer(state))

    def __call__(self, data: Any, name: str = "data", numbers: np.ndarray | None = None) -> None:
        """Raises if a label is not a class, with its position, or if all labels are ignored or cannot be found.

        Args:
            data: A data set or a batch, a pytree of arrays that share their leading length.
            name: Its name in an error.
            numbers: The numbers of the examples in a batch.
        """
        batching.count(data, name)
        if self._loss_fn is None:
            return
        read = _read(self._loss_fn, data, strict=self._preprocess is None)
        if read is None or not all(map(_is_readable, read)):
            return
        try:
            outputs, kept = self._traced(data)
        except ValueError as error:
            if name == "test_data":
                error.add_note("This is the evaluation of test_data; no epoch was trained.")
            raise
        if kept:
            part, told = self._judge(read, outputs, numbers)
            if told:
                raise ValueError(f"{name}{fields.spelled(data, self._loss_fn.places(data)[part])}: {told}")

    @property
    def knows(self) -> bool:
        """Whether it can check the labels of the loss function."""
        return self._loss_fn is not None

    def found(self, data: Any, numbers: np.ndarray | None = None) -> str:
        """Describes the first wrong label, after preprocessing, of data whose loss is not finite; empty if none is."""
        if self._loss_fn is None:
            return ""
        made = data
        if self._preprocess is not None:
            made = jax.jit(partial(self._preprocess, None))(data)
        read = self._loss_fn.read(made)
        return self._judge(read, self._traced(data)[0], numbers)[1] if all(map(_is_readable, read)) else ""

    def _judge(self, read: Read, outputs: Any, numbers: np.ndarray | None) -> tuple[str, str]:
        if self._loss_fn is None or not isinstance(outputs, jax.ShapeDtypeStruct):
            return "targets", ""
        return self._loss_fn.judge(jax.tree.map(np.asarray, read), outputs, numbers)

    def _traced(self, data: Any) -> tuple[Any, bool]:
        """The shape of the model's outputs, and whether preprocessing leaves labels, lengths and masks unchanged."""
        some = jax.tree.map(lambda x: _shape(x, self._batch_size), data)
        traced = partial(_outputs, loss_fn=self._loss_fn, preprocess=self._preprocess)
        ((kept, outputs),) = jax.eval_shape(traced, self._state, some).items()
        return outputs, kept == "kept"


@partial(jax.jit, static_argnames=("loss_fn", "preprocess"))
def _outputs(state: TrainState, batch: Any, loss_fn: Supervised, preprocess: Preprocess | None) -> dict[str, Any]:
    """The outputs; their name says whether preprocessing keeps the labels. Traced once for shapes, never compiled."""
    made = batch if preprocess is None else preprocess(None, batch)
    with explained_errors(made, preprocess):
        outputs, _ = apply(state, state.params, lambda model: loss_fn.outputs(model, made), training=False)
    stored = _read(loss_fn, batch, strict=False)
    kept = stored is not None and all(a is b for a, b in zip(loss_fn.read(made), stored, strict=True))
    return {"kept" if kept else "made": outputs}


def _read(loss_fn: Supervised, data: Any, *, strict: bool) -> Read | None:
    """Labels, lengths and mask; None if they are found only after preprocessing."""
    try:
        return loss_fn.read(data)
    except ValueError:
        if strict:
            raise
        return None


def _shape(x: Any, length: int | None = None) -> jax.ShapeDtypeStruct:
    shape = jnp.shape(x) if length is None else (length, *jnp.shape(x)[1:])
    return jax.ShapeDtypeStruct(shape, x.dtype if isinstance(x, jax.Array) else jnp.result_type(x))


def _is_readable(labels: Any) -> bool:
    """Whether this process can read the values: not while tracing, nor on devices of another process."""
    if isinstance(labels, jax.core.Tracer):
        return False
    return not isinstance(labels, jax.Array) or labels.is_fully_addressable or labels.is_fully_replicated
