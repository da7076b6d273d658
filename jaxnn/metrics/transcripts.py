"""Error rates of transcripts: the word or character edits that turn one text into another."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    r"""Counts the word errors of a set of transcripts, per word of the references.

    .. math:: \frac{\sum_i d(r_i, h_i)}{\sum_i |r_i|}

    with :math:`d` the `edit_distance` in words. The sums are over the whole set, so long texts count more. The rate can
    exceed 1.

    Args:
        references: The true texts; words are separated by white space.
        hypotheses: The transcripts, one per reference.

    Returns:
        The rate.

    Raises:
        ValueError: If the numbers of texts differ, the references hold no word, or a text replaces the list.

    Example:
        >>> from jaxnn import metrics
        >>> metrics.word_error_rate(["one two three", "four"], ["one too three", "four"])
        0.25
    """
    return _rate(references, hypotheses, "word", str.split)


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Counts the character errors of a set of transcripts, per character of the references; spaces count.

    Args:
        references: The true texts.
        hypotheses: The transcripts, one per reference.

    Returns:
        The rate, as in `word_error_rate`.

    Raises:
        ValueError: As `word_error_rate`.

    Example:
        >>> from jaxnn import metrics
        >>> metrics.character_error_rate(["four"], ["for"])
        0.25
    """
    return _rate(references, hypotheses, "character", str)


def edit_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Counts the fewest insertions, deletions and substitutions that turn one sequence into another.

    Args:
        one: A sequence: a text, a list of words.
        other: Another one.

    Returns:
        Their number.

    References:
        Wagner and Fischer, The string-to-string correction problem, JACM 1974.

    Example:
        >>> from jaxnn import metrics
        >>> metrics.edit_distance("kitten", "sitting")
        3
    """
    numbers: dict[Hashable, int] = {}
    left, right = ([numbers.setdefault(each, len(numbers)) for each in sequence] for sequence in (one, other))
    columns = np.arange(len(right) + 1)
    row, target = columns, np.array(right, np.int64)
    for number, symbol in enumerate(left, start=1):
        new = np.append(number, np.minimum(row[1:] + 1, row[:-1] + (target != symbol)))
        # Insertions, from left to right: the minimum of `new[k] + (j - k)` over k <= j.
        row = np.minimum.accumulate(new - columns) + columns
    return int(row[-1])


def _rate(
    references: Sequence[str], hypotheses: Sequence[str], what: str, split: Callable[[str], Sequence[str]]
) -> float:
    for name, texts in (("references", references), ("hypotheses", hypotheses)):
        if isinstance(texts, str):
            raise ValueError(f"{name}: expected a list of texts, got one text; write [text].")
    if len(references) != len(hypotheses):
        raise ValueError(f"hypotheses: expected one per reference, {len(references)}, got {len(hypotheses)}")
    true, found = [split(text) for text in references], [split(text) for text in hypotheses]
    total = sum(map(len, true))
    if not total:
        raise ValueError(f"references: expected at least one {what}, got none; leave empty sets out.")
    return sum(map(edit_distance, true, found)) / total
