"""The text experiment: nothing of the held-out texts reaches the training, and a run leaves numbers and pictures."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import text
from jaxnn import data
from tests.data.catalogues import write_django
from tests.data.test_texts import write_csv, write_folder
from tests.experiments.stops import die_before_checkpoint, resume, saved

pytest.importorskip("sklearn", reason="the bags of words are scikit-learn's")

SMALL = text.Options(embed=4, hidden=4, length=12, epochs=2, batch_size=32)
WORDS = {"bad": ["dull", "flat", "poor", "weak"], "good": ["fine", "great", "kind", "warm"]}
FILMS = {name: [f"a {a} and {b} film" for a in words for b in words] for name, words in WORDS.items()}


def films(folder, held_out="film"):
    write_folder(folder / "train", {name: texts[:12] for name, texts in FILMS.items()})
    write_folder(folder / "test", {name: [t.replace("film", held_out) for t in ts[12:]] for name, ts in FILMS.items()})
    return folder


def test_what_is_held_out_changes_nothing_that_is_learned_and_a_killed_run_continues(tmp_path, monkeypatch):
    one, other = (
        dataclasses.replace(SMALL, tokens="words", data_dir=films(tmp_path / name, word), run=tmp_path / "runs" / name)
        for name, word in (("one", "film"), ("other", "zzz unheard of book"))
    )
    text.main(one)
    die_before_checkpoint(2, monkeypatch, text.main, other)
    resume(text, other.run, monkeypatch)
    first, second = ({name: bits for name, (bits, _) in saved(options.run).items()} for options in (one, other))
    assert first == second
    first, second = (
        [json.loads(line) for line in (options.run / "metrics.jsonl").read_text().splitlines()]
        for options in (one, other)
    )
    assert [record["train_loss"] for record in first] == [record["train_loss"] for record in second]
    assert [record["test_loss"] for record in first] != [record["test_loss"] for record in second]


def test_a_run_of_letters_leaves_numbers_and_pictures(tmp_path, monkeypatch, capsys):
    write_django(tmp_path / "django", texts=2)
    monkeypatch.setattr(data, "load_languages", functools.partial(data.load_languages, folder=tmp_path / "django"))
    run = tmp_path / "run"
    text.main(dataclasses.replace(SMALL, epochs=1, run=run))
    result = json.loads((run / "result.json").read_text())
    assert set(result["scores"]) == {"LSTM", "bag of words", "bag of one to three letters"}
    assert all(0 <= value <= 1 for each in result["scores"].values() for value in each.values())
    for name in ("curves", "confusion", "words"):
        assert (run / f"{name}.png").stat().st_size > 0
    assert "23 classes" in capsys.readouterr().out


def test_a_dry_run_leaves_nothing(capsys):
    write_csv("films.csv", "text,label", *(f"{t},{name}" for name, texts in FILMS.items() for t in texts))
    text.main(dataclasses.replace(SMALL, tokens="words", data_dir=Path("films.csv"), dry_run=True))
    assert "2 epochs; tests are not counted" in capsys.readouterr().out
    assert [path.name for path in Path().iterdir()] == ["films.csv"]


def test_a_step_sees_a_piece_of_each_text_and_a_test_sees_the_whole():
    rng = np.random.default_rng(0)
    lengths = np.array([20, 20, 9, 3, 1] * 8, np.int32)
    tokens = np.where(np.arange(20) < lengths[:, None], rng.integers(2, 99, (40, 20)), 0).astype(np.int32)
    batch = text.Batch(tokens, lengths, np.arange(40, dtype=np.int32))
    cut = text.pieces(dataclasses.replace(SMALL, length=10, crop=0.5, unknown=0.0))
    assert cut(None, batch) is batch
    shown = jax.tree.map(np.asarray, cut(jax.random.key(0), batch))
    for row in range(40):
        piece, whole = (part.tokens[row, : part.lengths[row]].tolist() for part in (shown, batch))
        assert not shown.tokens[row, len(piece) :].any()
        assert min(len(whole), 10) / 2 <= len(piece) <= 10
        assert piece in [whole[start : start + len(piece)] for start in range(len(whole))]
    assert shown.tokens.shape == (40, 10)
    np.testing.assert_array_equal(shown.labels, batch.labels)
    assert len({tuple(row) for row in shown.tokens[::5]} - {tuple(row) for row in tokens[::5, :10]}) > 4
    unknown = text.pieces(dataclasses.replace(SMALL, length=10, crop=1.0, unknown=0.5))(jax.random.key(1), batch)
    inside = np.arange(10) < np.asarray(unknown.lengths)[:, None]
    assert 0.4 < np.mean(np.asarray(unknown.tokens)[inside] == 1) < 0.6
    assert not np.asarray(unknown.tokens)[~inside].any()


def test_the_bags_know_what_decides():
    rng = np.random.default_rng(0)
    texts = tuple(f"{'ja' if n % 2 else 'oui'} {word}" for n, word in enumerate(rng.integers(0, 99, 60)))
    labels = np.arange(60, dtype=np.int32) % 2
    dataset = data.TextDataset("", data.Texts(texts[:40], labels[:40]), data.Texts(texts[40:], labels[40:]), ("f", "d"))
    for predicted in text.bags(dataset, letters=True).values():
        assert text.score(labels[40:], predicted) == {"accuracy": 1.0, "macro_f1": 1.0}
