"""Speech from text by eSpeak NG, in a separate process."""

import importlib.util

import jax
import numpy as np
import pytest

from jaxnn import data


@pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra speech")
def test_the_engine_says_the_same_to_the_same_requests():
    requests = [data.Spoken("one two", "en-us+m3", 180, 40), data.Spoken("three", "en+f5"), data.Spoken("nine")]
    one, other = data.speak(requests), data.speak(requests)
    assert (one.texts, one.speakers) == (["one two", "three", "nine"], ["m3", "f5", ""])
    assert [len(sound) > 0.1 * one.rate for sound in one.samples] == [True] * 3
    jax.tree.map(np.testing.assert_array_equal, one.samples, other.samples)
    with pytest.raises(ImportError, match="it has no voice nobody"):
        data.speak([data.Spoken("one", "nobody", 150, 50)])
