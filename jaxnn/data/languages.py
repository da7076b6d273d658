"""Sentences in 23 languages: the messages that Django contains, a text data set that needs no network."""

import importlib.util
import os
import re
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from jaxnn import extras
from jaxnn.data.texts import TextDataset, Texts

LANGUAGES = {
    "bg": "Bulgarian",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "fi": "Finnish",
    "fr": "French",
    "ga": "Irish",
    "hr": "Croatian",
    "hu": "Hungarian",
    "it": "Italian",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "sk": "Slovak",
    "sl": "Slovene",
    "sv": "Swedish",
}
"""The official languages of the European Union but Maltese, which Django lacks."""

DOCUMENTS = {"core": "conf"} | {
    name: f"contrib/{name}"
    for name in (
        *("admin", "admindocs", "auth", "contenttypes", "flatpages", "gis", "humanize"),
        *("postgres", "redirects", "sessions", "sites"),
    )
}
"""The parts of Django that are translated separately, and their folders."""

_QUOTE = "[“”„‚‘’«»\"']?"
_MARKUP = re.compile(rf"{_QUOTE}(?:%(?:\(\w*\))?[.\d]*\w|\{{[^}}]*\}}){_QUOTE}|<[^>]*>|&\w+;|https?:\S+|\S*[/\\_`]\S*")
_MAGIC = 0x950412DE


def load_languages(
    held_out: Collection[str] = ("admindocs", "auth"), *, folder: str | os.PathLike[str] | None = None
) -> TextDataset:
    """Loads sentences in 23 languages: the messages of Django in its translators' words.

    The parts of Django, each translated as a whole, are the documents; whole documents are held out. Placeholders,
    markup and paths are removed from messages, and messages of a single word are left out. No text occurs twice in a
    language. A text that several languages share is left out; for training texts, only the training documents decide
    that. No held-out text is a training text. Another release of Django has a few other messages.

    Args:
        held_out: The documents that are held out, of `core`, `admin`, `admindocs`, `auth`, `contenttypes`, `flatpages`,
            `gis`, `humanize`, `postgres`, `redirects`, `sessions` and `sites`.
        folder: The folder of the package `django`; that of the installed one by default, which is not imported.

    Returns:
        The data set, with the languages as classes.

    Raises:
        ModuleNotFoundError: If Django is not installed.
        ValueError: If `held_out` names no document, all of them, or an unknown one, or messages are missing or damaged.

    References:
        The Django Software Foundation and its translators, Django, BSD licence.

    Example:
        >>> from jaxnn import data
        >>> sentences = data.load_languages()  # doctest: +SKIP
        >>> sentences.classes[:3], sentences.test.texts[0]  # doctest: +SKIP
        (('Bulgarian', 'Czech', 'Danish'), 'Административна документация')
    """
    unknown = sorted(set(held_out) - set(DOCUMENTS))
    if unknown or not 0 < len(set(held_out)) < len(DOCUMENTS):
        got = unknown[0] if unknown else ", ".join(held_out) or "none"
        raise ValueError(f"held_out: expected some of {', '.join(DOCUMENTS)}, but not all, got {got}")
    root = _installed() if folder is None else Path(folder)

    def texts_of(names: Iterable[str]) -> dict[str, dict[str, None]]:
        places = [root / DOCUMENTS[name] for name in names]
        return {code: dict.fromkeys(text for place in places for text in _messages(place, code)) for code in LANGUAGES}

    learned, judged = texts_of(name for name in DOCUMENTS if name not in held_out), texts_of(held_out)
    if not all(learned.values()) or not all(judged.values()):
        raise ValueError(f"folder: expected the package django with its messages, got {root}, which lacks some.")
    owners = _owners(learned)
    train = {code: [text for text in texts if len(owners[text]) == 1] for code, texts in learned.items()}
    owners = _owners(learned, judged)
    test = {
        code: [text for text in texts if len(owners[text]) == 1 and text not in learned[code]]
        for code, texts in judged.items()
    }
    return TextDataset(
        "messages of Django in the languages of the European Union", _as_texts(train), _as_texts(test), _NAMES
    )


_NAMES = tuple(sorted(LANGUAGES.values()))


def _installed() -> Path:
    found = importlib.util.find_spec("django")
    if found is None or not found.submodule_search_locations:
        raise extras.missing("load_languages: Django, which contains the sentences,", "experiments")
    return Path(found.submodule_search_locations[0])


def _messages(document: Path, code: str) -> Iterable[str]:
    """The messages of a document in a language, without markup."""
    # English is what the others translate; the most complete two together contain all of it.
    for source in (code,) if code != "en" else ("de", "fr"):
        for file in sorted((document / "locale" / source / "LC_MESSAGES").glob("*.mo")):
            for original, translated in read_mo(file):
                if original:  # that of the empty message is the file's header
                    for form in (original if code == "en" else translated).split("\0"):
                        if text := _plain(form.split("\4")[-1]):
                            yield text


def _plain(message: str) -> str:
    words = _MARKUP.sub(" ", message).split()
    return " ".join(words) if sum(any(map(str.isalpha, word)) for word in words) > 1 else ""


def _owners(*parts: dict[str, dict[str, None]]) -> dict[str, set[str]]:
    """The languages in which each text occurs."""
    owners: dict[str, set[str]] = defaultdict(set)
    for part in parts:
        for code, texts in part.items():
            for text in texts:
                owners[text].add(code)
    return owners


def _as_texts(by_language: dict[str, list[str]]) -> Texts:
    pairs = [(text, _NAMES.index(LANGUAGES[code])) for code, texts in by_language.items() for text in texts]
    return Texts(tuple(text for text, _ in pairs), np.array([label for _, label in pairs], np.int32))


def read_mo(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    r"""Reads the pairs of message and translation of a compiled catalogue of gettext.

    Plural forms of a message are separated by `"\0"`; a context precedes its message, separated by `"\4"`.

    Args:
        path: The file, `*.mo`.

    Returns:
        The pairs, in the order of the file.

    Raises:
        ValueError: If the file is no such catalogue.

    References:
        The GNU gettext manual, The format of GNU MO files.
    """
    content = Path(path).read_bytes()
    try:
        (magic,) = struct.unpack_from("<I", content)
        order = "<" if magic == _MAGIC else ">"
        magic, _, number, *tables = struct.unpack_from(f"{order}5I", content)
        if magic != _MAGIC:
            raise ValueError(f"first word: expected {_MAGIC:#x}, got {magic:#x}")
        columns = []
        for table in tables:
            places = struct.unpack_from(f"{order}{2 * number}I", content, table)
            columns.append(
                [
                    content[start : start + length].decode("utf-8")
                    for length, start in zip(places[::2], places[1::2], strict=True)
                ]
            )
    except (struct.error, ValueError) as error:
        raise ValueError(
            f"{path}: expected a compiled catalogue of gettext in UTF-8, got a damaged one ({error})"
        ) from error
    return list(zip(*columns, strict=True))
