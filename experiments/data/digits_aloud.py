"""Strings of digits for voices of eSpeak NG, some of which are held out for the test."""

import numpy as np

from jaxnn.data import Spoken

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029")
"""Every voice speaks with all of them."""
HEARD = (
    *("Alex", "Alicia", "Andy", "Gene", "Jacky", "Lee", "Marco", "Mario", "Mike", "Nguyen", "Reed", "antonio"),
    *("aunty", "belinda", "benjamin", "caleb", "ed", "edward", "f1", "f2", "f4", "grandma", "john", "klatt4", "m1"),
    *("m2", "m4", "m5", "m7", "max", "norbert", "pablo", "rob", "sandro", "shelby", "steph", "travis", "zac"),
)
"""Voices of the training data."""
HELD_OUT = ("Annie", "Michael", "boris", "david", "f3", "f5", "linda", "m3", "m6", "m8", "miguel", "quincy")
"""Voices of the test data."""


def strings(n: int, most: int, seed: int, voices: tuple[str, ...]) -> list[Spoken]:
    """Draws `n` strings of one to `most` digits, spoken by the voices in turn."""
    rng = np.random.default_rng(seed)
    return [
        Spoken(
            text=" ".join(WORDS[digit] for digit in rng.integers(0, 10, rng.integers(1, most + 1))),
            voice=f"{ACCENTS[rng.integers(len(ACCENTS))]}+{voices[number % len(voices)]}",
            speed=int(rng.integers(150, 251)),
            pitch=int(rng.integers(25, 76)),
        )
        for number in range(n)
    ]
