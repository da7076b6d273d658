"""Folders of messages as Django holds them, small ones."""

import struct
from pathlib import Path

from jaxnn.data.languages import DOCUMENTS, LANGUAGES


def write_mo(path, messages, order="<"):
    """A compiled catalogue of gettext, by its manual: two tables of lengths and places, then the strings."""
    messages = {"": "Content-Type: text/plain; charset=UTF-8\n"} | messages
    strings = [[text.encode() for text in column] for column in (messages, messages.values())]
    number, start = len(messages), 28
    place = start + 16 * number
    tables, content = [], b""
    for column in strings:
        table = []
        for text in column:
            table += [len(text), place + len(content)]
            content += text + b"\0"
        tables.append(struct.pack(f"{order}{2 * number}I", *table))
    head = struct.pack(f"{order}7I", 0x950412DE, 0, number, start, start + 8 * number, 0, start + 16 * number)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(head + b"".join(tables) + content)


def write_django(root, texts=8):
    """Each document of each language, with messages that name both."""
    for document, folder in DOCUMENTS.items():
        for code in LANGUAGES:
            if code != "en":
                messages = {f"say {document} {n} %(x)s": f"{code}{code} {document} {n} %(x)s" for n in range(texts)}
                write_mo(Path(root) / folder / "locale" / code / "LC_MESSAGES" / "django.mo", messages)
