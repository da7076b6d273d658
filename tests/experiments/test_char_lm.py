"""The character language model: text, streams, bits per character, training, the saved model, what it refuses."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from experiments import char_lm
from experiments.char_lm import load_model
from experiments.data.corpus import encode, read
from jaxnn import cli, interop, train
from jaxnn.models import LanguageModel
from tests.experiments.stops import die_before_checkpoint, resume

SIZES = {"embed_features": 4, "hidden_features": 8}
SMALL = partial(char_lm.Options, hidden=32, embed=8, streams=4, chunk=16, segment=20, epochs=4, length=40)
LINE = "the cat sat on the mat. "


def _model(vocabulary=5, **options):
    return LanguageModel(vocabulary, **SIZES, **options, rngs=nnx.Rngs(0))


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(LINE * 60, encoding="utf-8")
    return path


def test_the_text_inside_cpython_is_cut_into_nine_tenths_and_one():
    text = read(None)
    assert len(text.train) > 300_000
    assert len(text.held_out) == pytest.approx(len(text.train) / 9, rel=1e-3)
    whole = "".join(text.characters[token] for token in np.concatenate([text.train, text.held_out]))
    assert "lambda" in whole
    np.testing.assert_array_equal(encode(whole, text.characters)[: len(text.train)], text.train)


def test_training_learns_saves_and_generates(book, tmp_path, capsys):
    run = tmp_path / "run"
    char_lm.main(SMALL(text=book, run=run, dropout=0.0, learning_rate=2e-2))
    result = json.loads((run / "result.json").read_text())
    assert result["bits_per_character"] < 1.0  # 3.2 bits without learning
    for name in ("config.json", "metrics.jsonl", "curves.png", "samples.txt", "model.safetensors", "model.jaxprogram"):
        assert (run / name).stat().st_size > 0
    model, _ = load_model(run / "model.safetensors")
    text = read(book)
    bits = train.loop.bits_per_token(model, jnp.asarray(text.held_out), jnp.asarray(text.train[-1]))
    assert float(bits) == pytest.approx(result["bits_per_character"], abs=1e-6)

    capsys.readouterr()
    written = []
    for seed in (0, 0, 1):
        char_lm.main(char_lm.Options(generate="the cat", run=run, length=40, seed=seed, temperature=1.5))
        written.append(capsys.readouterr().out)
    assert written[0] == written[1] != written[2]
    assert all(w.startswith("the cat") and len(w) == len("the cat") + 40 + 1 for w in written)
    words = ["--config", f"{run}/config.json", "--generate", "the cat", "--temperature", "1.5"]
    cli.run(char_lm.main, char_lm.Options, arguments=words)
    assert capsys.readouterr().out == written[0]
    with pytest.raises(ValueError, match=r"--hidden: expected nothing with --generate, .*, got 8; --run is its model"):
        char_lm.main(char_lm.Options(generate="the cat", run=run, hidden=8))

    # The same seed and epochs give the same model, in a folder of its own.
    char_lm.main(SMALL(text=book, run=run, dropout=0.0, learning_rate=2e-2))
    again, _ = load_model(tmp_path / "run-2" / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model, nnx.Param), nnx.state(again, nnx.Param))


@pytest.mark.slow
def test_a_run_that_was_killed_twice_ends_bit_for_bit_as_one_that_was_not(book, tmp_path, monkeypatch, capsys):
    small = SMALL(text=book, run=tmp_path / "whole", epochs=6, segment=10, checkpoint_seconds=0.0)
    char_lm.main(small)
    run = tmp_path / "killed"
    die_before_checkpoint(5, monkeypatch, char_lm.main, dataclasses.replace(small, run=run))
    reported = (run / "samples.txt").read_bytes()
    die_before_checkpoint(5, monkeypatch, resume, char_lm, run, monkeypatch)
    resume(char_lm, run, monkeypatch)
    assert "resumed after step 80\n" in capsys.readouterr().out
    jax.tree.map(
        np.testing.assert_array_equal, *(load_file(path / "model.safetensors") for path in (tmp_path / "whole", run))
    )
    whole, parts = (train.RunFolder(path).metrics() for path in (tmp_path / "whole", run))
    assert [r | {"seconds": 0} for r in whole] == [r | {"seconds": 0} for r in parts]
    assert np.all(np.diff([r["seconds"] for r in parts]) > 0)  # those before it was killed count
    assert (run / "samples.txt").read_bytes().startswith(reported)
    results = [json.loads((path / "result.json").read_text()) | {"seconds": 0} for path in (tmp_path / "whole", run)]
    assert results[0] == results[1]
    resume(char_lm, run, monkeypatch)  # there is nothing left to train
    assert json.loads((run / "result.json").read_text()) | {"seconds": 0} == results[0]


def test_a_run_by_the_clock_has_the_time_left_that_it_had(book, tmp_path, monkeypatch):
    run = tmp_path / "run"
    by_the_clock = SMALL(text=book, run=run, epochs=None, minutes=60, checkpoint_seconds=0.0)
    die_before_checkpoint(3, monkeypatch, char_lm.main, by_the_clock)
    before = train.RunFolder(run).metrics()
    plans = []

    def plan(budget, done, segment):
        plans.append((budget.elapsed, done))
        return np.ones(segment)

    monkeypatch.setattr(train.loop.Budget, "shares", plan)
    resume(char_lm, run, monkeypatch)
    ((elapsed, done),) = plans
    assert len(before) == 3  # of which the last is not in a checkpoint
    assert done == 40
    assert elapsed > before[1]["seconds"]
    assert len(train.RunFolder(run).metrics()) == 3


def test_another_text_or_option_is_refused_and_the_run_is_left_as_it_was(book, tmp_path, monkeypatch):
    run = tmp_path / "run"
    char_lm.main(SMALL(text=book, run=run, epochs=1))
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    book.write_text(LINE[::-1] * 60, encoding="utf-8")
    for more, message in (((), "text was"), (("--hidden", "8"), "hidden was 32 there and is 8")):
        with pytest.raises(SystemExit, match=message):
            resume(char_lm, run, monkeypatch, *more)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_what_a_run_left_without_checkpoints_is_not_trained_over(tmp_path):
    with pytest.raises(ValueError, match="--resume: expected nothing with --generate"):
        char_lm.main(char_lm.Options(resume=tmp_path, generate="a"))
    train.RunFolder(tmp_path).log({"step": 1})
    with pytest.raises(ValueError, match=r"--resume: .* holds metrics.jsonl but no checkpoints"):
        char_lm.main(SMALL(resume=tmp_path))
    assert train.RunFolder(tmp_path).metrics() == [{"step": 1}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--text: expected a file of text, got .*text: No such file"),
        (b"", "--text: expected enough characters to hold 10% out, got 0 in"),
        (b"abc", "--text: expected enough characters to hold 10% out, got 3 in"),
        (b"abcdefgh" * 5, "--streams: expected at most 2 of chunks of 16"),
        (b"ab\xff" * 99, "--text: expected UTF-8, got invalid start byte at byte 2 of "),
    ],
)
def test_a_text_that_does_not_fit_is_named(tmp_path, content, message):
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        char_lm.main(SMALL(text=path, run=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def saved(tmp_path):
    about = {"characters": "abc d", "sizes": SIZES}
    interop.save_weights(tmp_path / "model.safetensors", _model(), about=about)
    return tmp_path


def test_a_model_comes_back_from_its_file_bit_for_bit(saved):
    model, characters = load_model(saved / "model.safetensors")
    assert characters == "abc d"
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model, nnx.Param), nnx.state(_model(), nnx.Param))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("ab€x", "--generate: expected characters of 'abc d', got 'x', '€'"),
        ("", "at least one character"),
        ("a" * 10_001, "at most 10,000 characters, got 10,001"),
    ],
)
def test_a_prompt_that_does_not_fit_is_named(saved, prompt, message):
    with pytest.raises(ValueError, match=message):
        char_lm.main(char_lm.Options(run=saved, generate=prompt))


def test_a_missing_or_damaged_model_is_named(saved):
    path = saved / "model.safetensors"
    with pytest.raises(ValueError, match=r"--run: expected a folder with model.safetensors, got .*nowhere; train"):
        char_lm.main(char_lm.Options(run=saved / "nowhere", generate="a"))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"PK\x03\x04 nothing", whole[:-40] + bytes(40)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"--run: .* got .*model\.safetensors, which is damaged"):
            char_lm.main(char_lm.Options(run=saved, generate="a"))
    about = {"characters": "abc d", "sizes": SIZES | {"hidden_features": 9}}
    interop.save_weights(path, _model(), about=about)
    with pytest.raises(ValueError, match="should hold the arrays"):
        load_model(path)
