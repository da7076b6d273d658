"""Vocabularies: which pieces are known, and that tokens are those of the pieces."""

import numpy as np
import pytest

from jaxnn.data import Vocabulary

TEXTS = ["Don't stop, don't!", "Stop the café.", "Café\u0301 stop"]


def test_words_are_in_lower_case_and_punctuation_is_a_word():
    vocabulary = Vocabulary.of(TEXTS, least=1)
    assert vocabulary.split("Don't STOP, x!") == ["don't", "stop", ",", "x", "!"]
    assert vocabulary.pieces[:2] == ("stop", "don't")


def test_composed_and_decomposed_letters_are_the_same():
    vocabulary = Vocabulary.of(["caf\u00e9"], "characters", least=1)
    tokens, _ = vocabulary.encode(["cafe\u0301"], 4)
    assert (tokens > Vocabulary.UNKNOWN).all()


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_tokens_say_the_pieces_and_what_is_unknown_is_marked(kind):
    vocabulary = Vocabulary.of(TEXTS, kind)
    tokens, lengths = vocabulary.encode([*TEXTS, "zzz", ""], 9)
    names = ["", None, *vocabulary.pieces]
    for row, length, text in zip(tokens, lengths, [*TEXTS, "zzz", ""], strict=True):
        pieces = vocabulary.split(text)[:9]
        assert length == len(pieces)
        assert not row[length:].any()
        assert [names[token] for token in row[:length]] == [p if p in vocabulary.pieces else None for p in pieces]
    assert tokens.max() < len(vocabulary)
    assert tokens.dtype == lengths.dtype == np.int32


def test_the_most_frequent_pieces_are_kept():
    vocabulary = Vocabulary.of(["a a a b b c c c c d"], least=2, most=2)
    assert vocabulary.pieces == ("c", "a")
    assert len(vocabulary) == 4


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="texts: expected words that occur 2 times or more, got none"):
        Vocabulary.of(["a b c"])
    with pytest.raises(ValueError, match="kind: expected 'words' or 'characters', got 'bytes'"):
        Vocabulary.of(["a a"], "bytes")
    with pytest.raises(ValueError, match="length: expected a whole number of at least 1, got 0"):
        Vocabulary.of(["a a"]).encode(["a"], 0)
