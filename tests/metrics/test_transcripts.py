"""Error rates of transcripts against jiwer, and edit distances against the recursion that defines them."""

import functools

import numpy as np
import pytest

from jaxnn import metrics


def texts(seed, n=30):
    rng = np.random.default_rng(seed)
    words = ["one", "two", "three", "four"]
    return [" ".join(words[k] for k in rng.integers(0, 4, rng.integers(1, 7))) for _ in range(n)]


def distance(one, other):
    @functools.cache
    def of(i, j):
        if not i or not j:
            return i + j
        return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (one[i - 1] != other[j - 1]))

    return of(len(one), len(other))


def test_distances_are_those_of_the_definition():
    for one, other in zip(texts(0), texts(1), strict=True):
        assert metrics.edit_distance(one, other) == distance(one, other)
        assert metrics.edit_distance(one.split(), other.split()) == distance(one.split(), other.split())
    assert [metrics.edit_distance(*pair) for pair in (("", ""), ("ab", ""), ("", "abc"))] == [0, 2, 3]


def test_rates_are_those_of_jiwer():
    jiwer = pytest.importorskip("jiwer")
    references, hypotheses = texts(0), [*texts(1)[:-1], ""]
    assert metrics.word_error_rate(references, hypotheses) == pytest.approx(jiwer.wer(references, hypotheses))
    assert metrics.character_error_rate(references, hypotheses) == pytest.approx(jiwer.cer(references, hypotheses))


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        (["a"], [], "hypotheses: expected one per reference, 1, got 0"),
        ([" "], ["a"], "references: expected at least one word, got none"),
        ("one two", ["one two"], "references: expected a list of texts, got one text"),
    ],
)
def test_what_has_no_rate_is_named(references, hypotheses, message):
    with pytest.raises(ValueError, match=message):
        metrics.word_error_rate(references, hypotheses)
