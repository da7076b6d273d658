"""Decoding of connectionist temporal classification (CTC): labels from the probabilities of each frame."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.functional.arguments import array, floating, integer, rank, with_one_batch
from jaxnn.functional.arguments import lengths as checked_lengths
from jaxnn.functional.compensated import Total, plus
from jaxnn.functional.exportable import exportable
from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.platform import inside_auto_axes, varying_alike, varying_as


@exportable
class Labelling(NamedTuple):
    """Result of CTC decoding.

    Attributes:
        labels: Int32 `(*batch, max_length)`, or `(*batch, beams, max_length)` by beam search, best first. The blank
            fills the rest.
        lengths: Int32, the number of labels.
        log_probs: Natural logarithm of a probability: of the best alignment for `ctc_greedy`, of all alignments that
            the search followed for `ctc_beam_search`.
    """

    labels: jax.Array
    lengths: jax.Array
    log_probs: jax.Array


def ctc_greedy(
    logits: jax.typing.ArrayLike, lengths: jax.typing.ArrayLike | None = None, *, blank: int = 0
) -> Labelling:
    """Takes the most probable class of each frame, joins repetitions and drops blanks.

    This finds the most probable alignment, whose labels need not be the most probable ones. `ctc_beam_search` adds up
    the alignments of the same labels.

    Args:
        logits: `(*batch, time, classes)`, before softmax.
        lengths: Number of frames that count, integers `(*batch,)`; all by default.
        blank: The class that means no label. Static under `jax.jit`.

    Returns:
        At most `time` labels, their number, and the log-probability of the alignment.

    Raises:
        ValueError: If a shape, a dtype or `blank` does not fit.

    References:
        Graves et al., Connectionist temporal classification, ICML 2006, section 3.2 (best path decoding).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> best = jnp.array([2, 2, 0, 2, 1, 1])  # the class of each of six frames; 0 is the blank
        >>> made = F.ctc_greedy(9.0 * jax.nn.one_hot(best, 3))
        >>> made.labels.tolist(), made.lengths.tolist()
        ([2, 2, 1, 0, 0, 0], 3)
    """
    return _greedy(*_checked(logits, lengths, blank))


@partial(jax.jit, static_argnames="blank")
def _greedy(logits: jax.Array, lengths: jax.Array | None, blank: int) -> Labelling:
    log_probs, lengths = _frames(logits, lengths)
    time = log_probs.shape[-2]
    counts = jax.lax.broadcasted_iota(jnp.int32, log_probs.shape[:-1], log_probs.ndim - 2) < lengths[..., None]
    best = jnp.where(counts, jnp.argmax(log_probs, axis=-1).astype(jnp.int32), blank)
    before = jnp.concatenate([jnp.full_like(best[..., :1], blank), best[..., :-1]], axis=-1)
    kept = (best != blank) & (best != before)
    # Dropped labels get an index past the end, where `mode="drop"` discards them.
    places = jnp.where(kept, jnp.cumsum(kept, axis=-1, dtype=jnp.int32) - 1, time)
    flat, split = with_one_batch(best, 1)

    def place(labels: jax.Array, at: jax.Array) -> jax.Array:
        return jnp.full(time, blank, jnp.int32).at[at].set(labels, mode="drop")

    labels = split(jax.vmap(place)(flat, with_one_batch(places, 1)[0]))
    total = jnp.sum(jnp.where(counts, jnp.max(log_probs, axis=-1), 0.0), axis=-1)
    return Labelling(labels, jnp.sum(kept, axis=-1, dtype=jnp.int32), total)


def ctc_beam_search(
    logits: jax.typing.ArrayLike,
    lengths: jax.typing.ArrayLike | None = None,
    *,
    beams: int,
    max_length: int | None = None,
    blank: int = 0,
) -> Labelling:
    r"""Keeps the `beams` most probable label prefixes at every frame, each summed over its alignments.

    For each prefix :math:`y` after t frames, let :math:`b` be the probability of its alignments that end in a blank,
    :math:`n` that of the alignments that end in its last label, and :math:`p` the probabilities of the next frame. The
    search computes, in the log domain,

    .. math::

        b'(y) = p_{\text{blank}} (b(y) + n(y)), \qquad
        n'(y k) = p_k \bigl( n(y k) + b(y) + [y \text{ does not end in } k] \, n(y) \bigr)

    and keeps the largest :math:`b' + n'`. With one beam per possible prefix the search is exhaustive. Ties go to the
    first prefix.

    Args:
        logits: `(*batch, time, classes)`, before softmax.
        lengths: Number of frames that count, integers `(*batch,)`; all by default.
        beams: Number of prefixes to keep. Static under `jax.jit`, like the options that follow.
        max_length: Largest number of labels; `time` by default.
        blank: The class that means no label.

    Returns:
        Labels, their number, and log-probabilities of the labels, `(*batch, beams, ...)`, best first. Where fewer
        labellings exist than beams, the rest have a log-probability of minus infinity.

    Raises:
        ValueError: If a shape or a dtype does not fit, or a number is out of range.

    References:
        Hannun et al., First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs,
        2014. Graves and Jaitly, Towards end-to-end speech recognition with recurrent neural networks, ICML 2014.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> logits = jnp.log(jnp.array([[0.6, 0.4], [0.6, 0.4]]))  # a blank and one label
        >>> F.ctc_greedy(logits).lengths.tolist()  # the best alignment, two blanks, has probability 0.36
        0
        >>> made = F.ctc_beam_search(logits, beams=2)  # the three alignments of one label have 0.64
        >>> made.labels[0].tolist(), made.lengths.tolist(), round(float(jnp.exp(made.log_probs[0])), 2)
        ([1, 0], [1, 0], 0.64)
    """
    beams = integer("beams", beams, 1)
    longest = None if max_length is None else integer("max_length", max_length, 1)
    return _beams(*_checked(logits, lengths, blank), beams, longest)


@partial(jax.jit, static_argnames=("blank", "beams", "longest"))
def _beams(logits: jax.Array, lengths: jax.Array | None, blank: int, beams: int, longest: int | None) -> Labelling:
    log_probs, lengths = _frames(logits, lengths)
    longest = log_probs.shape[-2] if longest is None else longest

    def search(log_probs: jax.Array, lengths: jax.Array) -> Labelling:
        flat, split = with_one_batch(log_probs, 2)
        made = jax.vmap(partial(_search, beams=beams, longest=longest, blank=blank))(flat, lengths.reshape(-1))
        return Labelling(*map(split, made))

    # The beams that continue are gathered, where the sharding of the result is ambiguous under explicit axes.
    return inside_auto_axes(search, *varying_alike((log_probs, lengths)), spec=jax.typeof(log_probs).sharding.spec[:-2])


def _search(log_probs: jax.Array, length: jax.Array, *, beams: int, longest: int, blank: int) -> Labelling:
    """Searches one sequence of frames."""
    classes, places = log_probs.shape[-1], jnp.arange(longest, dtype=jnp.int32)
    minus = jnp.full((beams, classes), -jnp.inf, log_probs.dtype)
    is_blank = jnp.arange(classes, dtype=jnp.int32)[None] == blank

    def frame(carry: Any, step: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        t, log_p = step
        labels, lengths, in_blank, in_label, total = carry
        either = jnp.logaddexp(in_blank, in_label)
        ends = lengths > 0
        last = jnp.where(ends, labels[jnp.arange(beams), jnp.maximum(lengths - 1, 0)], blank)
        # A label that repeats the last one needs a blank in between.
        again = last[:, None] == jnp.arange(classes, dtype=jnp.int32)[None]
        longer = jnp.where(again, in_blank[:, None], either[:, None]) + log_p[None]
        longer = jnp.where(is_blank | (lengths == longest)[:, None], minus, longer)
        # Beam i extended by a label may equal beam j, which exists already: its probability is added there.
        shared = (places[None] < lengths[:, None])[:, None]
        same = jnp.all((labels[:, None] == labels[None]) | ~shared, axis=-1)
        # A beam of probability zero is a placeholder, which may hold the labels of another beam.
        parent = same & (lengths[:, None] + 1 == lengths[None]) & (either > -jnp.inf)[None]
        joined = jnp.where(parent, longer[:, last], -jnp.inf)
        stays_label = jnp.where(ends, in_label + log_p[last], -jnp.inf)
        stays_label = jnp.logaddexp(stays_label, jax.nn.logsumexp(joined, axis=0))
        stays_blank = either + log_p[blank]
        taken = jnp.any(parent[:, :, None] & again[None], axis=1)
        # The blank's column means the beam without a new label.
        grown = jnp.where(taken, minus, longer)
        scores = jnp.where(is_blank, jnp.logaddexp(stays_blank, stays_label)[:, None], grown)
        best, chosen = jax.lax.top_k(scores.reshape(-1), beams)
        source, label = chosen // classes, (chosen % classes).astype(jnp.int32)
        stays = label == blank
        write = (places[None] == lengths[source][:, None]) & ~stays[:, None]
        # Relative to the best beam: totals of long sequences would round the differences away.
        shift = jnp.where(jnp.isfinite(best[0]), best[0], 0.0)
        new = (
            jnp.where(write, label[:, None], labels[source]),
            lengths[source] + jnp.where(stays, 0, 1).astype(jnp.int32),
            jnp.where(stays, stays_blank[source], -jnp.inf) - shift,
            jnp.where(stays, stays_label[source], best) - shift,
            plus(total, shift),
        )
        return jax.tree.map(lambda a, b: jnp.where(t < length, a, b), new, carry), None

    zero = jnp.zeros((), log_probs.dtype)
    start = (
        jnp.full((beams, longest), blank, jnp.int32),
        jnp.zeros(beams, jnp.int32),
        # At first all beams hold the empty prefix, so only one of them may count.
        jnp.where(jnp.arange(beams) == 0, zero, -jnp.inf),
        jnp.full(beams, -jnp.inf, log_probs.dtype),
        Total(zero, zero),
    )
    steps = (jnp.arange(log_probs.shape[0], dtype=jnp.int32), log_probs)
    start = jax.tree.map(partial(varying_as, log_probs), start)
    (labels, lengths, in_blank, in_label, total), _ = jax.lax.scan(frame, start, steps)
    return Labelling(labels, lengths, jnp.logaddexp(in_blank, in_label) + total.high)


def _checked(logits: Any, lengths: Any, blank: int) -> tuple[jax.Array, jax.Array | None, int]:
    """Reads the logits, the numbers of frames that count and the blank."""
    logits = array("logits", logits)
    floating(logits=logits)
    rank("logits", logits, 2, "(*batch, time, classes)")
    blank = integer("blank", blank, 0)
    if blank >= logits.shape[-1]:
        raise ValueError(f"blank: expected a class, 0..{logits.shape[-1] - 1}, got {blank}")
    if lengths is None:
        return logits, None, blank
    *batch, time, _ = logits.shape
    return logits, checked_lengths(lengths, (*batch,), time, batch_of="logits", steps="frames of logits"), blank


def _frames(logits: jax.Array, lengths: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities in float32 at least, and the numbers of frames that count."""
    if lengths is None:
        lengths = jnp.full(logits.shape[:-2], logits.shape[-2])
    return jax.nn.log_softmax(widened(logits)), lengths.astype(jnp.int32)
