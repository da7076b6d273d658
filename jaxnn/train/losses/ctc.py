"""Connectionist temporal classification (CTC), the loss of label sequences without times."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import functional as F
from jaxnn.functional.arguments import integer
from jaxnn.train.losses import fields
from jaxnn.train.losses.fields import Place
from jaxnn.train.losses.supervised import (
    ApplyFn,
    Read,
    Supervised,
    check_counts,
    check_kind,
    first_bad,
    floating,
    wrong_lengths,
)
from jaxnn.train.losses.types import LossFn, Metrics

IMPOSSIBLE = -1e30
"""Stands for the logarithm of zero: below that of any alignment, and sums over frames do not overflow float32."""


def ctc(
    *,
    blank: int = 0,
    inputs: Place | None = None,
    labels: Place | None = None,
    lengths: Place | None = None,
    label_lengths: Place | None = None,
    apply_fn: ApplyFn | None = None,
) -> LossFn:
    r"""Makes the CTC loss, for labels whose order is known and whose times are not, for example words of a recording.

    .. math:: \ell = -\log \sum_{a : \mathcal{B}(a) = y} \prod_t \mathrm{softmax}(z_t)_{a_t}

    over all alignments :math:`a`, with one class per frame, from which :math:`\mathcal{B}` makes the labels :math:`y`
    by joining repetitions and dropping blanks. It is `optax.ctc_loss`, in float32 at least, and not divided by the
    number of labels: the mean over a batch or a set is the mean per example.

    Frames and labels past their lengths have no effect, not even NaN. Labels that are not a class, or are the blank,
    give NaN. If no alignment is possible, because there are too few frames (one per label, and one between two equal
    labels) or logits are minus infinity, the loss is infinity and the gradient zero. `fit` and `evaluate` check labels
    and lengths first and raise a `ValueError` that names the position.

    Args:
        blank: The class that means no label.
        inputs: Key, attribute or position in the batch of what the model takes, as for `losses.classification`.
        labels: Key, attribute or position of the labels, integers `(batch, longest)`.
        lengths: Key, attribute or position of the number of frames **of the logits** that count, integers `(batch,)`.
            By default the batch's `lengths` or `length`; without either all frames count.
        label_lengths: The same for the number of labels; by default the batch's `label_lengths` or `target_lengths`.
        apply_fn: `(model, batch) -> logits`, for a model that takes the lengths too:
            `lambda model, batch: model(batch["x"], lengths=batch["lengths"])`. `model(inputs)` by default.

    Returns:
        `(model, batch, key) -> (losses, {"accuracy": ...})`, both `(batch,)`, for logits `(batch, time, classes)`. The
        accuracy is 1 if `functional.ctc_greedy` finds exactly the labels.

    Raises:
        ValueError: If `blank` is negative, or, while tracing, if shapes or dtypes do not fit, or the batch does not
            show where its parts are.

    References:
        Graves et al., Connectionist temporal classification: labelling unsegmented sequence data with recurrent neural
        networks, ICML 2006.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> batch = {"x": jnp.zeros((2, 3, 4)), "labels": jnp.array([[1, 2], [3, 0]]),
        ...          "lengths": jnp.array([3, 2]), "label_lengths": jnp.array([2, 1])}
        >>> losses, metrics = train.losses.ctc()(lambda x: x, batch, None)
        >>> (jnp.array([64.0, 16.0]) * jnp.exp(-losses)).round().astype(int).tolist()  # the numbers of alignments
        [5, 3]
    """
    return CTC(
        inputs=inputs,
        targets=labels,
        apply_fn=apply_fn,
        blank=integer("blank", blank, 0),
        lengths=lengths,
        label_lengths=label_lengths,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CTC(Supervised):
    """The loss that `losses.ctc` makes.

    Attributes:
        blank: The class that means no label.
        lengths: Where a batch holds the numbers of frames; None looks for them.
        label_lengths: Where it holds the numbers of labels; None looks for them.
    """

    blank: int
    lengths: Place | None
    label_lengths: Place | None

    option = "labels"

    def __call__(self, model: Any, batch: Any, key: jax.Array | None) -> tuple[jax.Array, Metrics]:
        """Losses, and whether greedy decoding is right."""
        read = self.read(batch)
        logits, labels = self.checked(self.outputs(model, batch), read.targets)
        frames, counted = _counts(read, logits.shape[1])
        # NaN in what does not count must not reach the gradient either.
        logits = jnp.where(_first(frames, logits.shape[1])[..., None], logits, jnp.zeros_like(logits))
        known = (labels >= 0) & (labels < logits.shape[-1]) & (labels != self.blank)
        kept = _first(counted, labels.shape[1])
        other = jnp.full_like(labels, 1 if self.blank == 0 else 0)
        padding = [(~mask).astype(logits.dtype) for mask in (_first(frames, logits.shape[1]), kept)]
        # Optax picks log-probabilities by products with ones and zeros, so all must be finite, and none rounded.
        least = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)) + IMPOSSIBLE
        finite, labelled = jnp.where(jnp.isneginf(logits), least, logits), jnp.where(kept & known, labels, other)
        with jax.default_matmul_precision("highest"):
            losses = optax.ctc_loss(
                finite, padding[0], labelled, padding[1], blank_id=self.blank, log_epsilon=IMPOSSIBLE
            )
        losses = jnp.where(losses > -IMPOSSIBLE / 10, jnp.full_like(losses, jnp.inf), losses)
        losses = jnp.where(jnp.all(known | ~kept, axis=-1), losses, jnp.full_like(losses, jnp.nan))
        made = F.ctc_greedy(logits, frames, blank=self.blank)
        width = max(labels.shape[1], made.labels.shape[1])
        found, wanted = (
            jnp.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=self.blank)
            for array in (made.labels, jnp.where(kept, labels, jnp.full_like(labels, self.blank)))
        )
        return losses, {"accuracy": jnp.all(found == wanted, axis=-1)}

    def places(self, batch: Any) -> dict[str, Place | None]:
        """Where the batch holds its labels, and the lengths that it has."""
        found = super().places(batch)
        for part, given in (("lengths", self.lengths), ("label_lengths", self.label_lengths)):
            if given is not None or fields.candidates(batch, part):
                found[part] = fields.find(batch, part, given)
        return found

    def checked(self, outputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
        """Logits in float32 at least, and labels in int32."""
        outputs = floating(outputs)
        if outputs.ndim != 3 or jnp.ndim(targets) != 2 or len(targets) != len(outputs):
            raise ValueError(
                "model: expected logits (batch, time, classes) for labels (batch, longest), got "
                f"{outputs.shape} for {jnp.shape(targets)}"
            )
        check_kind("labels", targets, jnp.integer, "integer class numbers", "jnp.int32")
        if outputs.shape[-1] < 2 or self.blank >= outputs.shape[-1]:
            raise ValueError(
                f"model: expected logits of the blank, class {self.blank}, and of at least one label, got "
                f"{outputs.shape[-1]} of them; give the last layer more features."
            )
        return outputs, jnp.asarray(targets).astype(jnp.int32)

    def judge(self, read: Read, outputs: Any, numbers: np.ndarray | None) -> tuple[str, str]:
        """Says which labels are not a class, and which have no alignment."""
        if read.targets.dtype.kind not in "iu" or outputs.ndim != 3 or read.targets.ndim != 2:
            return "targets", ""
        time, longest = outputs.shape[1], read.targets.shape[1]
        for part, values, most in (("lengths", read.lengths, time), ("label_lengths", read.label_lengths, longest)):
            if told := wrong_lengths(values, most, numbers):
                return part, told
        frames, counted = (np.asarray(each) for each in _counts(read, time))
        kept = np.arange(longest)[None] < counted[:, None]
        bad = ((read.targets < 0) | (read.targets >= outputs.shape[-1]) | (read.targets == self.blank)) & kept
        if bad.any():
            expected = f"class numbers 0..{outputs.shape[-1] - 1} other than the blank, {self.blank}"
            return "targets", f"expected {expected}, {first_bad(bad, read.targets, numbers)}"
        needed = np.asarray(_needed(read.targets, kept))
        bad = needed > frames
        if bad.any():
            first = int(bad.argmax())
            return "targets", (
                f"expected a frame a label and one between two equal labels, got {frames[first]} frames, "
                f"{needed[first]} needed, at position {first if numbers is None else int(numbers[first])} "
                f"({bad.sum():,} of {bad.size:,}); leave these examples out, or give the logits more frames."
            )
        return "targets", ""


def _counts(read: Read, time: int) -> tuple[Any, Any]:
    """The numbers of frames and of labels that count, int32 `(batch,)`."""
    batch, longest = read.targets.shape
    counts = []
    for name, values, most in (("lengths", read.lengths, time), ("label_lengths", read.label_lengths, longest)):
        if values is None:
            counts.append(jnp.full(batch, most, jnp.int32))
        else:
            check_counts(name, values, (batch,), np.integer, "integers")
            counts.append(values.astype(np.int32))
    return counts[0], counts[1]


def _first(lengths: jax.Array, size: int) -> jax.Array:
    """Which of `size` steps count, bools `(batch, size)`."""
    return jnp.arange(size, dtype=jnp.int32)[None] < lengths[:, None]


def _needed(labels: Any, kept: Any) -> jax.Array:
    """The frames of the shortest alignment: one a label, and a blank between two equal ones."""
    again = (labels[:, 1:] == labels[:, :-1]) & kept[:, 1:]
    return jnp.sum(kept, axis=-1, dtype=jnp.int32) + jnp.sum(again, axis=-1, dtype=jnp.int32)
