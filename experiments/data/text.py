"""Text as numbers: a vocabulary of characters, the text and its held-out end, and one circle of parallel streams."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
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


_STREAMS = np.uint32(2**32 - 1)  # training steps draw from fold_in(key, step), so this number is never one of theirs


class Chunk(NamedTuple):
    """A piece of each stream.

    Attributes:
      tokens: int32 `(streams, chunk + 1)`; the last of them is only predicted, and comes again in the next chunk.
      fresh: bool `(streams,)`: whether a stream begins anew here.
    """

    tokens: jax.Array
    fresh: jax.Array


def chunks_per_epoch(characters: int, streams: int, chunk: int) -> int:
    """In how many chunks all streams together pass through the text once."""
    number = (characters // streams) // chunk
    if number < 1:
        raise ValueError(
            f"--text has {characters:,} characters to train on, but {streams} streams with chunks of {chunk} need "
            f"{streams * chunk:,}; make --streams or --chunk smaller"
        )
    return number


def chunk_at(
    text: jax.Array, step: jax.Array, key: jax.Array, *, streams: int, chunk: int, restart: float = 0.0
) -> Chunk:
    """The chunk that a step reads, computed from the step's number alone.

    The text is a circle of which each stream reads its own arc, chunk after chunk; every epoch turns the circle by a
    random angle and starts anew, so that the arcs' ends lie elsewhere each time. In between, a stream now and then
    forgets what it has read: else the model would hardly ever see the state that every text and every prompt begins
    with, and would go astray from there.

    Args:
      text: int32 `(characters,)`, on the device.
      step: how many steps were done, int32 `()`.
      key: that the angles are drawn from, and who forgets.
      streams: how many.
      chunk: how many characters a stream reads in a step.
      restart: the chance that a stream forgets before a chunk.
    """
    characters = text.shape[0]
    number = chunks_per_epoch(characters, streams, chunk)
    epoch, place = step // number, step % number
    of_turns, of_restarts = jax.random.split(jax.random.fold_in(key, _STREAMS))
    turn = jax.random.randint(jax.random.fold_in(of_turns, epoch), (), 0, characters)
    starts = turn + jnp.arange(streams) * (characters // streams) + place * chunk
    positions = (starts[:, None] + jnp.arange(chunk + 1)[None]) % characters
    forgets = jax.random.bernoulli(jax.random.fold_in(of_restarts, step), restart, (streams,))
    return Chunk(text[positions], forgets | (place == 0))
