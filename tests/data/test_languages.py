"""Sentences in 23 languages: whole documents are held out, and nothing of them reaches the texts to learn from."""

import gettext
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from jaxnn.data import load_languages
from jaxnn.data.languages import DOCUMENTS, read_mo
from tests.data.catalogues import write_django, write_mo

MESSAGES = {"menu\4Open": "Öffnen", "%d day\0%d days": "%d Tag\0%d Tage", "Welcome": "Willkommen"}


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_catalogue_reads_as_pythons_gettext_reads_it(order):
    write_mo("a.mo", MESSAGES, order)
    pairs = read_mo("a.mo")
    assert dict(pairs[1:]) == MESSAGES
    with Path("a.mo").open("rb") as file:
        catalogue = gettext.GNUTranslations(file)
    assert catalogue.pgettext("menu", "Open") == "Öffnen"
    assert [catalogue.ngettext("%d day", "%d days", n) for n in (1, 2)] == dict(pairs)["%d day\0%d days"].split("\0")


@pytest.mark.parametrize("content", [b"", b"no catalogue at all, but text", b"\xde\x12\x04\x95" + b"\xff" * 30])
def test_a_damaged_catalogue_is_named(content):
    Path("a.mo").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.mo: expected a compiled catalogue of gettext in UTF-8"):
        read_mo("a.mo")


def test_whole_documents_are_held_out_and_markup_is_removed():
    write_django("django", texts=3)
    sentences = load_languages(("auth", "gis"), folder="django")
    assert len(sentences.classes) == 23
    assert set(sentences.test.texts) >= {"dede auth 0", "say gis 2"}
    assert {text.split()[1] for text in sentences.test.texts} == {"auth", "gis"}
    assert {text.split()[1] for text in sentences.train.texts} == set(DOCUMENTS) - {"auth", "gis"}
    assert np.bincount(sentences.test.labels).tolist() == [6] * 23
    assert sentences.classes[sentences.test.labels[sentences.test.texts.index("frfr auth 1")]] == "French"


def test_what_no_language_owns_and_what_was_learned_is_left_out():
    write_django("django", texts=1)
    place = "django/{}/locale/{}/LC_MESSAGES/djangojs.mo"
    for code in ("da", "sv"):
        write_mo(place.format("conf", code), {"One": "den samme", "Two": f"ordet {code}"})
    write_mo(
        place.format("contrib/auth", "sv"), {"One": "den samme", "Two": "ordet sv", "Three": "nytt", "4": "helt nytt"}
    )
    sentences = load_languages(folder="django")
    assert "den samme" not in sentences.train.texts
    assert sentences.train.texts.count("ordet sv") == 1
    added = {text for text in sentences.test.texts if "auth" not in text and "admindocs" not in text}
    assert added == {"helt nytt"}  # neither the shared one, nor the learned one, nor a single word


def test_held_out_documents_change_nothing_that_is_learned():
    write_django("django", texts=2)
    before = load_languages(folder="django")
    for code in ("de", "fr", "hr"):
        shared = {str(n): f"{other}{other} core {n}" for n, other in enumerate(("de", "fr", "hr"))}
        write_mo(f"django/contrib/auth/locale/{code}/LC_MESSAGES/django.mo", shared)
    after = load_languages(folder="django")
    assert after.train.texts == before.train.texts
    np.testing.assert_array_equal(after.train.labels, before.train.labels)
    assert after.test.texts != before.test.texts


@pytest.mark.parametrize(("held_out", "got"), [((), "none"), (("nothing",), "nothing"), (tuple(DOCUMENTS), "core, ")])
def test_documents_that_are_not_there_are_named(held_out, got):
    with pytest.raises(ValueError, match=f"held_out: expected some of core, admin, .*, but not all, got {got}"):
        load_languages(held_out)


def test_a_folder_without_messages_is_named():
    with pytest.raises(ValueError, match="folder: expected the package django with its messages, got nowhere"):
        load_languages(folder="nowhere")


def test_missing_django_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*\[experiments\]"):
        load_languages()


@pytest.mark.skipif(importlib.util.find_spec("django") is None, reason="needs Django's messages")
def test_the_messages_of_django():
    sentences = load_languages()
    counts = [np.bincount(part.labels, minlength=23) for part in sentences[1:3]]
    assert counts[0].min() > 200
    assert counts[1].min() > 40
    assert not set(sentences.train.texts) & set(sentences.test.texts)
    assert not [text for text in sentences.train.texts + sentences.test.texts if "%(" in text or "<" in text]
