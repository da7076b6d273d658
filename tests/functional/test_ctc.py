"""Decoding of CTC against all alignments, enumerated in float64, and against a prefix search in plain Python."""

import itertools
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import functional as F

TIME, CLASSES = 4, 3


def logits_of(seed, *batch):
    return np.random.default_rng(seed).normal(size=(*batch, TIME, CLASSES)).astype(np.float32) * 2


def log_softmax(z):
    z = z.astype(np.float64)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def collapse(alignment, blank):
    return tuple(k for k, _ in itertools.groupby(alignment) if k != blank)


def labellings(logits, blank):
    """The probability of every labelling: a sum over all alignments."""
    log_p, found = log_softmax(logits), defaultdict(float)
    for alignment in itertools.product(range(logits.shape[-1]), repeat=len(logits)):
        found[collapse(alignment, blank)] += np.exp(sum(log_p[t, k] for t, k in enumerate(alignment)))
    return sorted(((p, labels) for labels, p in found.items()), reverse=True)


def labels_of(made, *index):
    return tuple(made.labels[index][: made.lengths[index]].tolist())


@pytest.mark.parametrize("blank", [0, 2])
def test_a_search_with_a_beam_for_every_labelling_finds_them_all(blank):
    logits, lengths = logits_of(0, 2, 3), jnp.array([[4, 3, 0], [1, 2, 4]])
    made = F.ctc_beam_search(logits, lengths, beams=31, blank=blank)
    for i, j in np.ndindex(2, 3):
        expected = labellings(logits[i, j, : lengths[i, j]], blank)
        assert [labels_of(made, i, j, b) for b in range(len(expected))] == [labels for _, labels in expected]
        np.testing.assert_allclose(np.exp(made.log_probs[i, j, : len(expected)]), [p for p, _ in expected], rtol=1e-5)
        assert np.isneginf(made.log_probs[i, j, len(expected) :]).all()
        assert (made.labels[i, j, 0, made.lengths[i, j, 0] :] == blank).all()


def prefix_search(log_p, beams, blank, longest):
    """Prefix beam search with dictionaries."""
    kept = {(): (0.0, -np.inf)}
    for row in log_p:
        new = defaultdict(lambda: [-np.inf, -np.inf])
        for labels, (b, n) in kept.items():
            new[labels][0] = np.logaddexp(new[labels][0], np.logaddexp(b, n) + row[blank])
            for k in range(len(row)):
                if k == blank:
                    continue
                if labels[-1:] == (k,):
                    new[labels][1] = np.logaddexp(new[labels][1], n + row[k])
                if len(labels) < longest:
                    before = b if labels[-1:] == (k,) else np.logaddexp(b, n)
                    new[(*labels, k)][1] = np.logaddexp(new[(*labels, k)][1], before + row[k])
        kept = dict(sorted(new.items(), key=lambda item: -np.logaddexp(*item[1]))[:beams])
    return [(labels, np.logaddexp(*ends)) for labels, ends in kept.items()]


def test_a_narrow_search_of_long_sequences_equals_one_in_plain_python():
    rng = np.random.default_rng(3)
    logits, lengths = rng.normal(size=(3, 40, 4)).astype(np.float32) * 2, np.array([40, 25, 7])
    made = F.ctc_beam_search(logits, lengths, beams=3, max_length=12)
    for n in range(3):
        expected = prefix_search(log_softmax(logits[n, : lengths[n]]), 3, 0, 12)
        assert [labels_of(made, n, b) for b in range(3)] == [labels for labels, _ in expected]
        np.testing.assert_allclose(made.log_probs[n], [p for _, p in expected], rtol=1e-5)


def test_greedy_takes_the_best_alignment():
    logits, lengths = logits_of(1, 5), jnp.array([4, 3, 2, 1, 0])
    made = jax.jit(F.ctc_greedy)(logits, lengths)
    for n in range(5):
        log_p = log_softmax(logits[n, : lengths[n]])
        assert labels_of(made, n) == collapse(log_p.argmax(-1), 0)
        assert not made.labels[n, made.lengths[n] :].any()
        np.testing.assert_allclose(made.log_probs[n], log_p.max(-1).sum(), rtol=1e-5, atol=1e-6)


def test_what_lies_behind_the_length_does_not_matter_and_half_precision_is_widened():
    logits = jnp.asarray(logits_of(2), jnp.bfloat16)
    spoilt = logits.at[3:].set(jnp.nan)
    for decode in (F.ctc_greedy, lambda *each: F.ctc_beam_search(*each, beams=2)):
        one, other = decode(logits[:3], 3), decode(spoilt, 3)
        assert one.log_probs.dtype == jnp.float32
        np.testing.assert_array_equal(one.log_probs, other.log_probs)
        np.testing.assert_array_equal(one.lengths, other.lengths)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: F.ctc_greedy(z, blank=3), r"blank: expected a class, 0\.\.2, got 3"),
        (lambda z: F.ctc_greedy(z[0, 0]), r"logits: expected \(\*batch, time, classes\)"),
        (lambda z: F.ctc_greedy(z.astype(int)), "logits: expected a floating dtype"),
        (lambda z: F.ctc_greedy(z, jnp.zeros(3, int)), r"lengths: expected integers of shape \(2,\)"),
        (lambda z: F.ctc_beam_search(z, jnp.zeros(2), beams=2), "lengths: expected integers"),
        (lambda z: F.ctc_beam_search(z, beams=0), "beams: expected a whole number of at least 1, got 0"),
        (lambda z: F.ctc_beam_search(z, beams=1, max_length=0), "max_length: expected a whole number of at least 1"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(logits_of(0, 2))
