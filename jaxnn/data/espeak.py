"""Speech from text, by the library eSpeak NG, which the package espeakng-loader contains.

As a program, `python espeak.py < requests.json > sounds.npz`, it speaks in a separate process: what eSpeak NG says
depends on what it said before, so only a new process says the same to the same requests, and the library may end the
process it runs in.
"""

import ctypes
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxnn.data.wav import Recordings

SYNCHRONOUS, DONT_EXIT, UTF8, SPEED, PITCH = 2, 0x8000, 1, 1, 3
"""Constants of espeak-ng/speak_lib.h; in other modes it speaks in a thread, during which the voice must not change."""

COMMAND = (sys.executable, "-P", __file__)
"""This file as a program. -P: the folder of this file holds modules that are not meant to be found by name."""


class Spoken(NamedTuple):
    """A text to speak, with voice, speed and pitch.

    Attributes:
        text: The words.
        voice: A voice of eSpeak NG: a language, and perhaps a variant, `en-us+f3`.
        speed: Words per minute.
        pitch: A number from 0 to 99.
    """

    text: str
    voice: str = "en-us"
    speed: int = 175
    pitch: int = 50


def speak(requests: Sequence[Spoken]) -> "Recordings":
    """Synthesises speech with eSpeak NG, in a new process; the same requests give the same sounds.

    Args:
        requests: The texts and how to speak them.

    Returns:
        The recordings; the speaker is the variant of the voice.

    Raises:
        ImportError: If eSpeak NG is missing or does not work, or has no such voice.

    Example:
        >>> from jaxnn import data
        >>> texts = [data.Spoken("one two", voice="en-us+f3"), data.Spoken("three", speed=250)]
        >>> said = data.speak(texts)  # doctest: +SKIP
        >>> said.texts, said.speakers, said.rate  # doctest: +SKIP
        (['one two', 'three'], ['f3', ''], 22050)
    """
    # Not at the top: the process that speaks works without this package.
    from jaxnn import extras
    from jaxnn.data.wav import Recordings

    done = subprocess.run(COMMAND, input=json.dumps(requests).encode(), capture_output=True)
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        reason = told[-1] if told else f"its process ended with status {done.returncode}"
        raise ImportError(
            f"data.speak: eSpeak NG cannot be used here: {reason}; it comes with: {extras.install('speech')}"
        )
    with np.load(io.BytesIO(done.stdout)) as file:
        sounds, rate = np.split(file["sounds"], file["ends"][:-1]), int(file["rate"])
    return Recordings(
        names=[f"{number} {request.voice}" for number, request in enumerate(requests)],
        samples=[sound.astype(np.float32) / np.float32(2**15) for sound in sounds],
        rate=rate,
        texts=[request.text for request in requests],
        speakers=[request.voice.partition("+")[2] for request in requests],
    )


class Engine:
    """The engine eSpeak NG in this process."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ModuleNotFoundError:
            sys.exit("the package espeakng-loader is not installed")
        try:
            self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            sys.exit(f"its library cannot be loaded ({error})")
        data = espeakng_loader.get_data_path().encode()
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, data, DONT_EXIT)
        if self.rate <= 0:
            sys.exit(f"it does not start with the data in {data.decode()}")
        self.heard: list[np.ndarray] = []
        # Held here, since ctypes does not hold what C calls.
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = kind(self._hear)
        self.library.espeak_SetSynthCallback(self.callback)
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(0))

    def _hear(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self.heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, request: Spoken) -> np.ndarray:
        """Speaks one request."""
        if self.library.espeak_SetVoiceByName(request.voice.encode()):
            sys.exit(f"it has no voice {request.voice}")
        self.library.espeak_SetParameter(SPEED, request.speed, 0)
        self.library.espeak_SetParameter(PITCH, request.pitch, 0)
        self.heard.clear()
        text = request.text.encode()
        self.library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, UTF8, None, None)
        return np.concatenate([np.zeros(0, np.int16), *self.heard])


def main() -> None:
    """Speaks the requests of the standard input."""
    engine = Engine()
    sounds = [engine.say(Spoken(*each)) for each in json.load(sys.stdin)]
    file = io.BytesIO()
    np.savez(
        file,
        sounds=np.concatenate([np.zeros(0, np.int16), *sounds]),
        ends=np.cumsum([len(sound) for sound in sounds]),
        rate=engine.rate,
    )
    sys.stdout.buffer.write(file.getvalue())


if __name__ == "__main__":
    main()
