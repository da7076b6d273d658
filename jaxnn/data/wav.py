"""Recordings as WAV files, with their transcripts."""

import csv
import os
import re
import wave
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_FREE_SPOKEN_DIGIT = re.compile(r"(\d)_(\w+)_\d+")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Recordings(NamedTuple):
    """Recordings and their transcripts, in the order of their names.

    Attributes:
        names: The path of each file in its folder, without `.wav`.
        samples: The samples of each recording, float32 `(samples,)` from -1 to 1.
        rate: Samples per second.
        texts: The spoken words, in lower case with single spaces.
        speakers: The speaker of each recording.
    """

    names: list[str]
    samples: list[npt.NDArray[np.float32]]
    rate: int
    texts: list[str]
    speakers: list[str]


def read_wav(path: str | os.PathLike[str]) -> tuple[npt.NDArray[np.float32], int]:
    """Reads a WAV file of one channel of integers (PCM) of 8, 16, 24 or 32 bits.

    Args:
        path: The file.

    Returns:
        The samples, float32 `(samples,)` from -1 to 1, and the number of samples per second.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a PCM WAV file, is empty or has several channels.

    Example:
        >>> import wave
        >>> from jaxnn import data
        >>> with wave.open("a.wav", "wb") as file:
        ...     file.setparams((1, 2, 8000, 0, "NONE", None))
        ...     file.writeframes(bytes([0, 0, 0, 64]))
        >>> data.read_wav("a.wav")
        (array([0. , 0.5], dtype=float32), 8000)
    """
    path = Path(path)
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            content = file.readframes(count)
    except (wave.Error, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{path}: expected a WAV file of integers (PCM), got another or damaged one ({error or 'too short'}); "
            "convert it: ffmpeg -i IN -c:a pcm_s16le OUT.wav."
        ) from error
    if channels != 1:
        raise ValueError(f"{path}: expected one channel, got {channels}; mix them: ffmpeg -i IN -ac 1 OUT.wav.")
    if width not in (1, 2, 3, 4):
        raise ValueError(f"{path}: expected samples of 1 to 4 bytes, got {width}")
    if not content or len(content) != count * width:
        raise ValueError(
            f"{path}: expected {f'{count:,}' if count else 'some'} samples, got {len(content) // width:,}; "
            "record it anew."
        )
    if width == 1:
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / np.float32(128), rate
    # As the high bytes of int32, little-endian.
    padded = np.zeros((count, 4), np.uint8)
    padded[:, 4 - width :] = np.frombuffer(content, np.uint8).reshape(count, width)
    return (padded.view("<i4")[:, 0] / 2**31).astype(np.float32), rate


def load_recordings(folder: str | os.PathLike[str]) -> Recordings:
    """Reads a folder of WAV files, also in sub-folders, and their transcripts.

    The transcripts of all files come from the first of these that exists:

    - `transcripts.txt`, a line for each file: its path without `.wav`, a space, the words.
    - `metadata.csv` with the columns `file_name` and `transcription`, and optionally `speaker`.
    - The names of the Free Spoken Digit Dataset: `7_jackson_32.wav` is a seven, spoken by Jackson.

    The speaker is that of the column `speaker` or of Free Spoken Digit's name, or the first folder of the path, as in
    `jackson/32.wav`; otherwise empty.

    Args:
        folder: The folder.

    Returns:
        The recordings.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there is no WAV file, a file cannot be read or has another rate than the first, a transcript is
            missing, empty or without a file, or a name contains no digit.

    Example:
        >>> import pathlib, wave
        >>> from jaxnn import data
        >>> pathlib.Path("digits").mkdir()
        >>> with wave.open("digits/7_jackson_32.wav", "wb") as file:
        ...     file.setparams((1, 2, 8000, 0, "NONE", None))
        ...     file.writeframes(bytes(1600))
        >>> found = data.load_recordings("digits")
        >>> found.texts, found.speakers, found.rate, found.samples[0].shape
        (['seven'], ['jackson'], 8000, (800,))
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: expected a folder of WAV files, got {folder}, which is none")
    files = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() == ".wav"
    }
    if not files:
        raise ValueError(f"folder: expected WAV files in {folder}, got none; other formats need converting first.")
    told = _transcripts(folder, files)
    samples, rates = zip(*map(read_wav, files.values()), strict=True)
    for path, rate in zip(files.values(), rates, strict=True):
        if rate != rates[0]:
            raise ValueError(
                f"{path}: expected {rates[0]:,} samples a second, as the first file has, got {rate:,}; convert it: "
                f"ffmpeg -i IN -ar {rates[0]} OUT.wav."
            )
    texts, speakers = zip(*(told[name] for name in files), strict=True)
    return Recordings(list(files), list(samples), rates[0], list(texts), list(speakers))


def split_speakers(recordings: Recordings, held_out: Collection[str] = ()) -> tuple[Recordings, Recordings]:
    """Splits recordings by speaker, to test a model on voices that it was not trained on.

    Args:
        recordings: The recordings.
        held_out: The speakers to hold out; by default every fifth one.

    Returns:
        The recordings to train on, and those of the held-out speakers.

    Raises:
        ValueError: If there are fewer than two speakers, or `held_out` names none of them or all.

    Example:
        >>> import numpy as np
        >>> from jaxnn import data
        >>> sounds = [np.zeros(80, np.float32)] * 3
        >>> said = data.Recordings(["a", "b", "c"], sounds, 8000, ["one", "two", "one"], ["Ann", "Bob", "Ann"])
        >>> learned, held_out = data.split_speakers(said, ["Bob"])
        >>> learned.texts, held_out.texts
        (['one', 'one'], ['two'])
    """
    speakers = sorted({*recordings.speakers})
    if len(speakers) < 2:
        raise ValueError(
            "recordings: expected recordings of at least two speakers, of whom one is held out, got "
            f"{len(speakers)}; put those of each speaker into a folder with the speaker's name."
        )
    chosen = tuple(held_out) or tuple(speakers[4::5] or speakers[-1:])
    wrong = [name for name in chosen if name not in speakers]
    if wrong or len({*chosen}) == len(speakers):
        raise ValueError(
            f"held_out: expected some of the speakers {', '.join(speakers)}, got {', '.join(wrong) or 'all of them'}"
        )

    def part(test: bool) -> Recordings:
        rows = [row for row, speaker in enumerate(recordings.speakers) if (speaker in chosen) == test]
        lists: dict[str, Any] = {
            name: [each[row] for row in rows] for name, each in recordings._asdict().items() if name != "rate"
        }
        return recordings._replace(**lists)

    return part(False), part(True)


def _transcripts(folder: Path, files: dict[str, Path]) -> dict[str, tuple[str, str]]:
    """Text and speaker by name."""
    told: dict[str, tuple[str, str]] = {}

    def add(place: str, name: str, text: str, speaker: str | None = None) -> None:
        name = re.sub(r"\.wav$", "", name, flags=re.IGNORECASE)
        if name not in files:
            raise ValueError(f"{place}: expected the name of a WAV file in {folder}, got {name!r}")
        words = text.lower().split()
        if not words:
            raise ValueError(f"{place}: expected what {name}.wav says, got no word; remove silent recordings.")
        told[name] = " ".join(words), (name.partition("/")[0] if "/" in name else "") if speaker is None else speaker

    lines, table = folder / "transcripts.txt", folder / "metadata.csv"
    if lines.exists():
        for number, line in enumerate(lines.read_text("utf-8").splitlines(), start=1):
            name, _, text = line.strip().partition(" ")
            if name:
                add(f"{lines}, line {number}", name, text)
    elif table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if not {"file_name", "transcription"} <= {*(reader.fieldnames or ())}:
                got = ", ".join(reader.fieldnames or ())
                raise ValueError(f"{table}: expected the columns file_name and transcription, got {got}")
            for row in reader:
                place = f"{table}, line {reader.line_num}"
                add(place, row["file_name"], row["transcription"] or "", row.get("speaker"))
    else:
        for name, path in files.items():
            found = _FREE_SPOKEN_DIGIT.fullmatch(path.stem)
            if not found:
                raise ValueError(
                    f"{path}: expected a name like 7_jackson_32.wav, for want of transcripts.txt and metadata.csv in "
                    f"{folder}, got {path.name}; write a line for each file, NAME WORDS, into transcripts.txt."
                )
            add(str(path), name, _DIGITS[int(found[1])], found[2])
    if missing := [name for name in files if name not in told]:
        raise ValueError(
            f"{lines if lines.exists() else table}: expected a transcript of every WAV file, got none of {missing[0]} "
            f"({len(missing):,} of {len(files):,})"
        )
    return told
