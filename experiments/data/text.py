"""Text as numbers: a vocabulary of characters, the text and its held-out end, and one circle of parallel streams."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The characters that a model knows; a token is a character's place among them."""

    characters: str

    @classmethod
    def of(cls, text: str) -> "Vocabulary":
        """The characters of a text, sorted."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str, name: str) -> np.ndarray:
        """int32 `(len(text),)`; raises where a character is unknown, and says which, with `name` for the text."""
        places = {character: place for place, character in enumerate(self.characters)}
        if unknown := sorted(set(text) - set(places)):
            shown = ", ".join(repr(character) for character in unknown[:10]) + (", ..." if len(unknown) > 10 else "")
            raise ValueError(
                f"{name} holds characters that the model has never seen: {shown}; it knows {self.characters!r}"
            )
        return np.array([places[character] for character in text], np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of some tokens."""
        return "".join(self.characters[token] for token in tokens)


class Text(NamedTuple):
    """A text in tokens, cut in two: what is trained on, and its end, which is not."""

    train: np.ndarray
    held_out: np.ndarray
    vocabulary: Vocabulary
    name: str


def read(path: Path | None, held_out: float = 0.1) -> Text:
    """Reads a UTF-8 text, or the help pages that CPython carries, and keeps its end back.

    The vocabulary is that of the whole text: a character that only the held-out end has is known, but never trained.

    Args:
      path: a file; None for `pydoc_data.topics`, the language reference inside CPython (its text differs a little from
        one Python version to the next).
      held_out: the share of the characters that is kept back.

    Raises:
      ValueError: the file is empty, not UTF-8, or too short to keep an end back.
      OSError: it cannot be read.
    """
    if path is None:
        from pydoc_data.topics import topics

        text, name = "\n".join(topics[topic] for topic in sorted(topics)), "the text inside CPython"
    else:
        name = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"--text {path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if not text:
        raise ValueError(f"--text {name} is empty; there is nothing to learn from it")
    cut = len(text) - round(held_out * len(text))
    if min(cut, len(text) - cut) < 2:
        raise ValueError(f"--text {name} has {len(text)} characters, too few to keep {held_out:.0%} of it back")
    vocabulary = Vocabulary.of(text)
    tokens = vocabulary.encode(text, name)
    return Text(tokens[:cut], tokens[cut:], vocabulary, name)
