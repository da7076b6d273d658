"""The speech experiment: who is heard in training and who is not, tones in place of words, and chunks of sound."""

import json
import wave

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import speech
from experiments.data import digits_aloud, sounds, templates
from jaxnn import data
from jaxnn.data import espeak
from tests.experiments.stops import die_before_checkpoint, resume, saved

RATE = 8000
TONES = {"low": 400.0, "high": 1500.0}
"""Words of two tones, one octave and a half apart."""


def tone(text, speaker):
    """Each word is a tone of 80 ms, a little higher for each speaker, and a pause."""
    sounds = []
    for word in text.split():
        t = np.arange(int(0.08 * RATE)) / RATE
        sounds += [
            0.5 * np.sin(2 * np.pi * TONES.get(word, 400.0) * (1 + 0.02 * speaker) * t),
            np.zeros(int(0.04 * RATE)),
        ]
    return np.concatenate(sounds)


def write(folder, texts):
    """A folder of recordings, text k by speaker k % 3."""
    lines = []
    for number, text in enumerate(texts):
        path = folder / f"speaker{number % 3}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", None))
            file.writeframes((tone(text, number % 3) * 2**14).astype("<i2").tobytes())
        lines.append(f"speaker{number % 3}/{number} {text}\n")
    (folder / "transcripts.txt").write_text("".join(lines))
    return folder


TEXTS = ["low", "high", "low high", "high low", "low", "high", "high high"] * 3


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "tones", TEXTS)


def test_no_voice_is_both_heard_and_held_out():
    assert not {*digits_aloud.HEARD} & {*digits_aloud.HELD_OUT}
    heard, held_out = (digits_aloud.strings(200, 3, 0, v) for v in (digits_aloud.HEARD, digits_aloud.HELD_OUT))
    variants = [{request.voice.partition("+")[2] for request in requests} for requests in (heard, held_out)]
    assert variants == [{*digits_aloud.HEARD}, {*digits_aloud.HELD_OUT}]


def test_held_out_speakers_have_no_part_in_training(folder):
    recordings = data.load_recordings(folder)
    heard, held_out = data.split_speakers(recordings, ("speaker1",))
    assert ({*heard.speakers}, {*held_out.speakers}) == ({"speaker0", "speaker2"}, {"speaker1"})
    assert len(heard.texts) + len(held_out.texts) == len(TEXTS)
    # Whatever they say, all that is learned from is the same.
    other = recordings._replace(
        samples=[s[::-1] if n in held_out.names else s for n, s in zip(*recordings[:2], strict=True)]
    )
    parts = [data.split_speakers(each, ("speaker1",))[0] for each in (recordings, other)]
    one, two = (sounds.prepare(part, "ghilow ") for part in parts)
    jax.tree.map(np.testing.assert_array_equal, (one, sounds.statistics(one)), (two, sounds.statistics(two)))


def test_frames_and_texts_of_a_recording_do_not_depend_on_the_others(folder):
    recordings = data.load_recordings(folder)
    alphabet = " ghilow"
    whole = sounds.prepare(recordings, alphabet)
    row = recordings.texts.index("low high")
    alone = recordings._replace(samples=recordings.samples[row : row + 1], texts=["low high"], names=["one"])
    part = sounds.prepare(alone, alphabet)
    np.testing.assert_allclose(part.inputs[0], whole.inputs[row, : part.lengths[0]], rtol=1e-5, atol=1e-5)
    assert sounds.texts_of(whole.labels, whole.label_lengths, alphabet) == recordings.texts


def test_templates_find_connected_words(folder):
    recordings = data.load_recordings(folder)
    heard, held_out = data.split_speakers(recordings, ("speaker1",))
    learned, judged = (sounds.prepare(part, "ghilow ") for part in (heard, held_out))
    found = templates.templates_of(learned, heard.texts, heard.speakers, 2)
    assert sorted(found.words) == ["high", "high", "low", "low"]
    rows = zip(judged.inputs, judged.lengths, strict=True)
    made = [templates.transcribe(found, sounds.unstacked(each[:n])) for each, n in rows]
    assert made == held_out.texts


def test_a_network_that_looks_back_only_streams():
    options = speech.Options(causal=True, hidden=8)
    features = sounds.STACK * sounds.BANDS
    model = speech.Listener(options, np.full(features, -5.0, np.float32), np.ones(features, np.float32), 5)
    model.eval()
    samples = np.random.default_rng(0).normal(size=int(0.9 * RATE)).astype(np.float32) * 0.1
    recording = data.Recordings(["one"], [samples], RATE, ["abcd"], [""])
    whole = sounds.prepare(recording, "abcd")
    labels = np.asarray(jnp.argmax(nnx.jit(lambda m, x: m(x))(model, whole.inputs), -1))[0]
    joined = "".join("-abcd"[label] for label, before in zip(labels, [0, *labels[:-1]], strict=True) if label != before)
    assert len(joined.replace("-", "")) > 1
    for chunk in (3, 7):
        assert speech.stream(model, samples, RATE, "abcd", chunk=chunk) == joined.replace("-", "")


def test_the_experiment_leaves_its_numbers_and_resumes(folder, tmp_path, monkeypatch, capsys):
    short = {"data_dir": folder, "epochs": 2, "batch_size": 8, "hidden": 4, "beams": 2, "causal": True}
    speech.main(speech.Options(**short, run=tmp_path / "whole"))
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    for name in ("network, greedy", "network, beam search", "network, chunk by chunk", "nearest templates"):
        assert result[f"word error rate, {name}"] >= 0
        assert result[f"character error rate, {name}"] >= 0
    assert "of whole recordings in 100.00% of them" in capsys.readouterr().out
    assert (tmp_path / "whole" / "speech.png").stat().st_size > 0
    stopped = tmp_path / "stopped"
    die_before_checkpoint(2, monkeypatch, speech.main, speech.Options(**short, run=stopped))
    resume(speech, stopped, monkeypatch)
    assert saved(stopped) == saved(tmp_path / "whole")


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (
            ["low", "high"],
            {"held_out": ("speaker7",)},
            "--held-out: expected some of the speakers speaker0, speaker1, got",
        ),
        (["low"], {}, "--data-dir: expected recordings of at least two speakers, of whom one is held out, got 1"),
        (["low", "high"], {}, r"--data-dir: expected recordings to test by with the characters .* got 'g', 'h', 'i'"),
        (
            ["low", "high", "low" * 30],
            {},
            r"--data-dir: .*, got 0\.\d\d seconds for 'lowlow.* in speaker2/2; correct or",
        ),
        (None, {"data_dir": "nowhere"}, "--data-dir: expected a folder of WAV files, got nowhere"),
    ],
)
def test_what_cannot_be_used_is_named(texts, options, message, tmp_path):
    where = {} if texts is None else {"data_dir": write(tmp_path / "tones", texts)}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        speech.main(speech.Options(**where, **options, run=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_without_the_engine_the_extra_and_the_option_are_named(monkeypatch):
    monkeypatch.setattr(espeak, "COMMAND", (espeak.sys.executable, "-c", "raise SystemExit('it has no voice x')"))
    with pytest.raises(ImportError, match=r"cannot be used here: it has no voice x; .* pip .*speech.*--data-dir"):
        speech.main(speech.Options())


def test_other_voices_are_the_same_frames_moved_by_bands():
    frames = np.sin(np.arange(sounds.BANDS) / 6, dtype=np.float32)
    batch = sounds.Speech(np.tile(frames, (50, 3, sounds.STACK)), *(np.zeros(50, int),) * 3)
    assert sounds.vary(None, batch) is batch
    varied = np.asarray(sounds.vary(jax.random.key(0), batch).inputs)
    assert varied.shape == batch.inputs.shape
    moved = varied[:, 0, : sounds.BANDS] - varied[:, 0, :1]  # the first band stays; loudness adds to all
    # Half way up, 12 % of a wave of 38 bands: what a linear interpolation makes of the sine at the moved places.
    places = np.linspace(0.88, 1.12, 2001)[:, None] * np.arange(24)
    possible = np.interp(places, np.arange(sounds.BANDS), frames) - frames[0]
    gaps = np.abs(moved[:, None, :24] - possible[None]).max(-1).min(-1)
    assert gaps.max() < 1e-2
    assert moved.std(0)[15] > 0.05
    np.testing.assert_allclose(varied[:, 2], varied[:, 0], rtol=1e-5, atol=1e-6)
