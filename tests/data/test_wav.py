"""Recordings: WAV files of every width, and folders that say what is spoken in them, or do not."""

import wave

import numpy as np
import pytest
import scipy.io.wavfile

from jaxnn import data


def write(path, samples=(0, 100, -100), rate=8000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", None))
        file.writeframes(np.asarray(samples, "<i2").tobytes())


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_samples_of_every_width_are_those_of_scipy(dtype, tmp_path):
    info = np.iinfo(dtype)
    values = np.array([info.min, info.max, (info.max + info.min + 1) // 2, 7], dtype)
    scipy.io.wavfile.write(tmp_path / "a.wav", 16000, values)
    samples, rate = data.read_wav(tmp_path / "a.wav")
    middle = (float(info.max) + float(info.min) + 1) / 2
    np.testing.assert_allclose(samples, (values - middle) / (info.max - middle + 1), rtol=1e-6, atol=1e-7)
    assert (samples.dtype, rate) == (np.float32, 16000)


def test_samples_of_three_bytes(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 3, 8000, 0, "NONE", None))
        file.writeframes(bytes([0, 0, 0x40, 0, 0, 0xC0]))
    np.testing.assert_array_equal(data.read_wav(tmp_path / "a.wav")[0], [0.5, -0.5])


def test_names_of_free_spoken_digits(tmp_path):
    for name in ("7_jackson_32", "0_lucas_1"):
        write(tmp_path / f"{name}.wav")
    found = data.load_recordings(tmp_path)
    assert found.names == ["0_lucas_1", "7_jackson_32"]
    assert (found.texts, found.speakers) == (["zero", "seven"], ["lucas", "jackson"])


def test_every_fifth_speaker_is_held_out():
    names = [f"speaker{number}" for number in range(10)]
    said = data.Recordings(names, [np.zeros(8, np.float32)] * 10, 8000, ["one"] * 10, names)
    assert data.split_speakers(said)[1].speakers == [names[4], names[9]]


def test_transcripts_in_a_text(tmp_path):
    for name in ("ann/1", "bob/1"):
        write(tmp_path / f"{name}.wav")
    (tmp_path / "transcripts.txt").write_text("bob/1 Good  MORNING\n\nann/1.wav hello\n")
    found = data.load_recordings(tmp_path)
    assert (found.texts, found.speakers) == (["hello", "good morning"], ["ann", "bob"])


def test_transcripts_in_a_table(tmp_path):
    write(tmp_path / "1.wav")
    (tmp_path / "metadata.csv").write_text('file_name,speaker,transcription\n1.wav,Ann,"one, two"\n')
    found = data.load_recordings(tmp_path)
    assert (found.texts, found.speakers) == (["one, two"], ["Ann"])


BAD = {
    "no folder": ({}, {}, "folder: expected a folder of WAV files, got .*nowhere"),
    "no file": ({"a.mp3": {}}, {}, "folder: expected WAV files in .*, got none"),
    "rate": ({"1_a_1.wav": {}, "1_b_1.wav": {"rate": 16000}}, {}, r"1_b_1.wav: expected 8,000 samples .*, got 16,000"),
    "stereo": ({"1_a_1.wav": {"channels": 2, "samples": [0, 0]}}, {}, "1_a_1.wav: expected one channel, got 2; mix"),
    "no sample": ({"1_a_1.wav": {"samples": []}}, {}, "1_a_1.wav: expected some samples, got 0"),
    "name": ({"hello.wav": {}}, {}, "hello.wav: expected a name like 7_jackson_32.wav"),
    "no words": (
        {"a.wav": {}},
        {"transcripts.txt": "a \n"},
        "transcripts.txt, line 1: expected what a.wav says, got no",
    ),
    "cell": (
        {"a.wav": {}},
        {"metadata.csv": "file_name,transcription\na.wav,\n"},
        "metadata.csv, line 2: expected what",
    ),
    "unknown": (
        {"a.wav": {}},
        {"transcripts.txt": "b one\n"},
        "line 1: expected the name of a WAV file in .*, got 'b'",
    ),
    "left out": ({"a.wav": {}, "b.wav": {}}, {"transcripts.txt": "a one\n"}, r"got none of b \(1 of 2\)"),
    "columns": (
        {"a.wav": {}},
        {"metadata.csv": "name,text\na.wav,hi\n"},
        "expected the columns file_name and transcri",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_named(case, tmp_path):
    wavs, files, message = BAD[case]
    folder = tmp_path / ("nowhere" if case == "no folder" else "")
    for name, options in wavs.items():
        write(folder / name, **options)
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        data.load_recordings(folder)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x03\0\x01\0" + bytes(40)])
def test_what_is_no_wav_file_is_named(content, tmp_path):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"a\.wav: expected a WAV file of integers \(PCM\), got another or damaged one"
    ):
        data.read_wav(tmp_path / "a.wav")


def test_a_file_that_was_cut_off_is_named(tmp_path):
    write(tmp_path / "a.wav", range(100))
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"a\.wav: expected 100 samples, got 90"):
        data.read_wav(tmp_path / "a.wav")
