"""A text for a language model: its characters as numbers, with the end held out."""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Text(NamedTuple):
    """A text in two parts, as tokens: indices into `characters`."""

    train: np.ndarray
    held_out: np.ndarray
    characters: str
    name: str


def encode(text: str, characters: str) -> np.ndarray:
    """Returns the tokens of a text, int32 `(len(text),)`; an unknown character is an error."""
    places = {character: place for place, character in enumerate(characters)}
    if unknown := sorted({*text} - {*characters}):
        shown = ", ".join(map(repr, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
        raise ValueError(f"--generate: expected characters of {characters!r}, got {shown}")
    return np.array([places[character] for character in text], np.int32)


def read(path: Path | None, held_out: float = 0.1) -> Text:
    """Reads a UTF-8 text, or the language reference inside CPython, and holds out a share of it at the end."""
    if path is None:
        from pydoc_data.topics import topics

        text, name = "\n".join(topics[topic] for topic in sorted(topics)), "the text inside CPython"
    else:
        name = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"--text: expected UTF-8, got {error.reason} at byte {error.start} of {path}") from None
        except OSError as error:
            raise ValueError(f"--text: expected a file of text, got {path}: {error.strerror}") from None
    cut = len(text) - round(held_out * len(text))
    if min(cut, len(text) - cut) < 2:
        raise ValueError(f"--text: expected enough characters to hold {held_out:.0%} out, got {len(text)} in {name}")
    characters = "".join(sorted({*text}))
    tokens = encode(text, characters)
    return Text(tokens[:cut], tokens[cut:], characters, name)
