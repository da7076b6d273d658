"""Texts as numbers: the words or characters that a model knows."""

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from jaxnn.counts import check_count

Kind = Literal["words", "characters"]
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words or characters that a model of texts knows.

    A token is an index into the vocabulary: 0 is padding, 1 is any unknown piece, and the known pieces start at 2.
    Texts are normalised to Unicode's composed form (NFC). Words are in lower case; a punctuation mark is a word.

    Attributes:
        kind: What the pieces are, `"words"` or `"characters"`.
        pieces: The known pieces, the most frequent first.
        PADDING: The token of the padding.
        UNKNOWN: The token of unknown pieces.

    Example:
        >>> from jaxnn import data
        >>> vocabulary = data.Vocabulary.of(["A cat, a dog.", "A bird."], least=1)
        >>> vocabulary.pieces
        ('a', '.', 'cat', ',', 'dog', 'bird')
        >>> tokens, lengths = vocabulary.encode(["a horse.", "a"], 4)
        >>> tokens
        array([[2, 1, 3, 0],
               [2, 0, 0, 0]], dtype=int32)
        >>> lengths
        array([3, 1], dtype=int32)
    """

    kind: Kind
    pieces: tuple[str, ...]

    PADDING: ClassVar[int] = 0
    UNKNOWN: ClassVar[int] = 1

    @classmethod
    def of(cls, texts: Iterable[str], kind: Kind = "words", *, least: int = 2, most: int = 20_000) -> "Vocabulary":
        """Collects the most frequent pieces of the training texts.

        Args:
            texts: The texts.
            kind: `"words"` or `"characters"`.
            least: Number of times that a piece must occur.
            most: The largest number of pieces.

        Returns:
            The vocabulary.

        Raises:
            ValueError: If no piece occurs that often.
        """
        counts = Counter(piece for text in texts for piece in _split(text, kind))
        pieces = tuple(piece for piece, count in counts.most_common(most) if count >= least)
        if not pieces:
            raise ValueError(f"texts: expected {kind} that occur {least} times or more, got none; give more text.")
        return cls(kind, pieces)

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self.pieces) + 2

    def split(self, text: str) -> list[str]:
        """Splits a text into pieces, known or not."""
        return _split(text, self.kind)

    def encode(self, texts: Sequence[str], length: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Encodes texts as arrays.

        Args:
            texts: The texts.
            length: Number of tokens per row; longer texts are cut.

        Returns:
            Tokens, int32 `(texts, length)`, and the number of tokens of each text, int32 `(texts,)`.

        Raises:
            ValueError: If `length` is below 1.
        """
        check_count("length", length)
        places = {piece: place for place, piece in enumerate(self.pieces, 2)}
        tokens = np.full((len(texts), length), self.PADDING, np.int32)
        lengths = np.zeros(len(texts), np.int32)
        for row, text in enumerate(texts):
            pieces = self.split(text)[:length]
            tokens[row, : len(pieces)] = [places.get(piece, self.UNKNOWN) for piece in pieces]
            lengths[row] = len(pieces)
        return tokens, lengths


def _split(text: str, kind: Kind) -> list[str]:
    if kind not in ("words", "characters"):
        raise ValueError(f"kind: expected 'words' or 'characters', got {kind!r}")
    composed = unicodedata.normalize("NFC", text)
    return list(composed) if kind == "characters" else _WORD.findall(composed.lower())
