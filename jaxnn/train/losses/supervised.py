"""The base of losses of outputs against targets: the parts of a batch, which positions count, and the means."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.kernels.accumulate import widened
from jaxnn.train.losses import fields
from jaxnn.train.losses.fields import Place
from jaxnn.train.losses.types import Metrics

ApplyFn = Callable[[Any, Any], Any]
"""`(model, batch) -> outputs`."""

Per = Literal["step", "sequence"]


class Read(NamedTuple):
    """The arrays of a batch from which targets are checked.

    Attributes:
        targets: `(batch, *positions)`.
        lengths: Of sequences, integers `(batch,)`; None where all steps count.
        mask: Of sequences, bools `(batch, time)`; None where all steps count.
        label_lengths: Of labels without times, integers `(batch,)`; None where all count.
    """

    targets: Any
    lengths: Any = None
    mask: Any = None
    label_lengths: Any = None


@dataclasses.dataclass(frozen=True)
class Steps:
    """Which steps of sequences count, and what a mean is over.

    Attributes:
        lengths: Where a batch holds lengths, integers `(batch,)`; None looks for them.
        mask: Where it holds a mask, bools `(batch, time)`; None looks for it.
        per: What counts once: a step, or a sequence of at least one step.
    """

    lengths: Place | None
    mask: Place | None
    per: Per

    def find(self, batch: Any) -> dict[str, Place | None]:
        """Where the batch holds `lengths` or a `mask`; empty where it has neither."""
        for part, given in (("lengths", self.lengths), ("mask", self.mask)):
            if given is not None:
                return {part: fields.find(batch, part, given)}
        found = [(part, name) for part in ("lengths", "mask") for name in fields.candidates(batch, part)]
        if len(found) > 1:
            names = ", ".join(repr(name) for _, name in found)
            raise ValueError(f"batch: expected lengths or a mask, got {names}; say which with lengths= or mask=.")
        return dict(found)

    def counted(self, read: Read) -> Any:
        """The steps that count, bools of the targets' shape; None where all do."""
        shape = tuple(read.targets.shape)
        if len(shape) < 2:
            raise ValueError(
                f"targets: expected sequences, (batch, time) and further axes if any, got {shape}; take the loss "
                "without losses.sequence."
            )
        if read.lengths is not None:
            check_counts("lengths", read.lengths, shape[:1], np.integer, "integers")
            mask = np.arange(shape[1], dtype=np.int32)[None] < read.lengths[:, None].astype(np.int32)
        elif read.mask is not None:
            check_counts("mask", read.mask, shape[:2], np.bool_, "bools")
            mask = read.mask
        else:
            return None
        numpy = np if isinstance(mask, np.ndarray) else jnp
        return numpy.broadcast_to(mask.reshape(*shape[:2], *(1,) * (len(shape) - 2)), shape)


@dataclasses.dataclass(frozen=True)
class Supervised:
    """A loss of a model's outputs against targets, a `LossFn`; two of the same options are equal.

    Attributes:
        inputs: Where a batch holds what the model takes; None finds it (`fields.find`).
        targets: Where it holds the targets; None finds them.
        apply_fn: `(model, batch) -> outputs`; None is `model(inputs)`.
        steps: Which steps of sequences count; None where targets are no sequences.
    """

    inputs: Place | None = None
    targets: Place | None = None
    apply_fn: ApplyFn | None = None
    steps: Steps | None = None

    option: ClassVar[str] = "targets"
    """The argument that says where the targets are."""

    def __call__(self, model: Any, batch: Any, key: jax.Array | None) -> tuple[jax.Array, Metrics]:
        """Losses and metrics of a batch."""
        read = self.read(batch)
        outputs, targets = self.checked(self.outputs(model, batch), read.targets)
        counted = self.counted(read._replace(targets=targets))
        if counted is None:
            losses, metrics = self.pointwise(outputs, targets)
            return _means(losses), {name: _means(value) for name, value in metrics.items()}
        # NaN there must not reach the gradient either.
        losses, metrics = self.pointwise(_kept(outputs, counted), _kept(targets, counted))
        weights = counted.astype(losses.dtype)
        metrics = {name: _means(value, weights) for name, value in metrics.items()}
        by_sequence = self.steps is not None and self.steps.per == "sequence"
        metrics["examples"] = jnp.any(counted, tuple(range(1, counted.ndim))) if by_sequence else _means(weights)
        return _means(_kept(losses, counted), weights), metrics

    def outputs(self, model: Any, batch: Any) -> Any:
        """The outputs of the model for a batch."""
        if self.apply_fn is not None:
            return self.apply_fn(model, batch)
        if not callable(model):
            raise ValueError(
                f"model: expected a module that is called with the inputs, got a {type(model).__name__}; for a "
                "functional model give the loss apply_fn=lambda params, batch: ..."
            )
        return model(fields.get(batch, fields.find(batch, "inputs", self.inputs)))

    def places(self, batch: Any) -> dict[str, Place | None]:
        """Where the batch holds the parts that `read` reads."""
        found = {"targets": fields.find(batch, "targets", self.targets, self.option)}
        return found if self.steps is None else found | self.steps.find(batch)

    def read(self, batch: Any) -> Read:
        """The targets, and which of them count."""
        return Read(**{part: fields.get(batch, place) for part, place in self.places(batch).items()})

    def counted(self, read: Read) -> Any:
        """Which positions count, bools of the targets' shape, of NumPy arrays on the host; None where all do."""
        kept, mask = self.labelled(read.targets), None if self.steps is None else self.steps.counted(read)
        if mask is None or kept is None:
            return kept if mask is None else mask
        return mask & kept

    def labelled(self, targets: Any) -> Any:
        """Which targets count by their value; None where all do."""
        return None

    def checked(self, outputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
        """Outputs and targets in the dtype to compute in, their shapes and dtypes checked."""
        raise NotImplementedError

    def pointwise(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, Metrics]:
        """Losses and metrics of each position, of the targets' shape."""
        raise NotImplementedError

    def judge(self, read: Read, outputs: Any, numbers: np.ndarray | None) -> tuple[str, str]:
        """Describes invalid targets or lengths, whose values are known on the host.

        Args:
            read: NumPy arrays.
            outputs: Shape and dtype of the model's outputs.
            numbers: The examples' numbers; 0, 1, ... if None.

        Returns:
            `targets` or `lengths`, and what was expected and what came; empty if all are valid.
        """
        counted = self.counted(read)
        if self.steps is not None and (told := wrong_lengths(read.lengths, read.targets.shape[1], numbers)):
            return "lengths", told
        if numbers is None and counted is not None and not counted.any():
            return "targets", self.none_counts()
        if (invalid := self.invalid(read.targets, outputs)) is None:
            return "targets", ""
        bad, expected, advice = invalid
        bad = bad if counted is None else bad & counted
        if not bad.any():
            return "targets", ""
        return "targets", f"expected {expected}, {first_bad(bad, read.targets, numbers)}; {advice}."

    def invalid(self, targets: np.ndarray, outputs: Any) -> tuple[np.ndarray, str, str] | None:
        """Which targets are invalid, what valid ones are, and what to do; None if all are, or tracing raises."""
        return None

    def none_counts(self) -> str:
        """The error where nothing counts."""
        return "expected a step that lengths or the mask let count, got none"


def floating(outputs: Any) -> jax.Array:
    """Outputs in float32 at least; raises unless they are one floating-point array."""
    if not hasattr(outputs, "dtype"):
        raise ValueError(
            f"model: expected one array of outputs, got a {type(outputs).__name__}; choose the array with "
            "apply_fn=lambda model, batch: ..."
        )
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"model: expected floating-point outputs, got {outputs.dtype}; return them before any argmax.")
    return widened(jnp.asarray(outputs))


def without_unit_axis(outputs: jax.Array, targets: Any, what: str) -> jax.Array:
    """Outputs of the targets' shape, without a last axis of size 1 that these lack; raises if shapes differ more."""
    shape = tuple(jnp.shape(targets))
    if len(shape) < 1 or outputs.shape not in (shape, (*shape, 1)):
        raise ValueError(
            f"model: expected {what} of shape {shape}, that of the targets, got {outputs.shape}; reshape one of them, "
            "outputs with apply_fn."
        )
    return outputs.reshape(shape)


def wrong_lengths(lengths: np.ndarray | None, longest: int, numbers: np.ndarray | None) -> str:
    """Describes the first length that is negative or above `longest`; empty if there is none."""
    if lengths is None:
        return ""
    bad = (lengths < 0) | (lengths > longest)
    return f"expected lengths 0..{longest}, {first_bad(bad, lengths, numbers)}" if bad.any() else ""


def check_kind(name: str, targets: Any, kind: Any, what: str, dtype: str) -> None:
    """Raises unless the dtype of targets is of a kind; `dtype` is one to convert them to."""
    if not jnp.issubdtype(targets.dtype, kind):
        raise ValueError(f"{name}: expected {what}, got {targets.dtype}; convert them: {name}.astype({dtype}).")


def first_bad(bad: np.ndarray, values: np.ndarray, numbers: np.ndarray | None) -> str:
    """The first value that is bad, its position, and how many are bad.

    Example:
        >>> import numpy as np
        >>> from jaxnn.train.losses.supervised import first_bad
        >>> first_bad(np.array([False, True, True]), np.array([0, 7, 9]), None)
        'got 7 at position 1 (2 of 3)'
    """
    first = np.unravel_index(bad.argmax(), bad.shape)
    place = [int(first[0] if numbers is None else numbers[first[0]]), *map(int, first[1:])]
    return f"got {values[first]} at position {', '.join(map(str, place))} ({bad.sum():,} of {bad.size:,})"


def check_counts(name: str, array: Any, shape: tuple[int, ...], kind: Any, what: str) -> None:
    """Raises unless an array of lengths or of a mask has this shape and kind of dtype."""
    if tuple(array.shape) != shape or not jnp.issubdtype(array.dtype, kind):
        raise ValueError(
            f"{name}: expected {what} of shape {shape}, got {array.dtype} of shape {tuple(array.shape)}; convert it "
            "with astype, or say which array it is with lengths= or mask=."
        )


def _kept(values: jax.Array, counted: jax.Array) -> jax.Array:
    """The values where they count, 0 elsewhere; `values` may have more axes at the end."""
    counted = counted.reshape(*counted.shape, *(1,) * (values.ndim - counted.ndim))
    return jnp.where(counted, values, jnp.zeros_like(values))


def _means(values: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Means over the positions of each example that count, `(batch, *positions) -> (batch,)`; 0 where none does."""
    if values.ndim == 1:
        return values
    positions = tuple(range(1, values.ndim))
    if weights is None:
        return jnp.mean(values, positions)
    return jnp.sum(values.astype(weights.dtype) * weights, positions) / jnp.maximum(jnp.sum(weights, positions), 1)
