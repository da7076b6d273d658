"""Programs as files: what they hold, what comes back, and what is refused."""

import json
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxnn import functional as F
from jaxnn import interop

pytest.importorskip("flatbuffers", reason="JAX writes exported programs with flatbuffers")

PARAMS = F.init_lstm(jax.random.key(0), 3, 4)
STEP = interop.Step(
    np.ones((1, 3), np.float32),
    lambda x: PARAMS.zero_state(x.shape[:1], x.dtype),
    lambda state, x: ((new := F.lstm_step(PARAMS, state, x)).h, new),
)


def sequences(inputs):
    return F.lstm(PARAMS, inputs["x"], lengths=inputs["lengths"])


def example(batch, time):
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(batch, time, 3)).astype(np.float32),
        "lengths": np.arange(batch, dtype=np.int32) % (time + 1),
    }


def test_sequences_of_any_number_and_length_with_traced_lengths_and_a_step():
    shapes = {"x": "b, t, ...", "lengths": "b"}
    program = interop.export_program(sequences, example(1, 2), shapes=shapes, step=STEP, about={"é": [1, None]})
    program.save("lstm.jaxprogram")
    again = interop.load_program("lstm.jaxprogram")
    assert again.about == {"é": [1, None]}
    for batch, time in ((1, 5), (4, 3)):
        inputs = example(batch, time)
        y, state = again(inputs)
        expected, after = sequences(inputs)
        np.testing.assert_allclose(y, expected, atol=1e-6)
        np.testing.assert_allclose(state["c"], after.c, atol=1e-6)  # a class is no part of a program
    state = again.start(inputs["x"][:, 0])
    for t in range(time):
        h, state = again.step(state, inputs["x"][:, t])
        np.testing.assert_allclose(h, F.lstm(PARAMS, inputs["x"])[0][:, t], atol=1e-6)


def test_the_file_tells_what_it_holds():
    interop.export_program(sequences, example(1, 2), shapes={"x": "b, t, 3", "lengths": "b"}, step=STEP).save("a.zip")
    assert [path.name for path in Path().iterdir()] == ["a.zip"]
    with zipfile.ZipFile("a.zip") as file:
        assert file.namelist() == ["program.json", "call", "start", "step"]
        contents = json.loads(file.read("program.json"))
    assert contents["platforms"] == ["cpu", "cuda", "tpu"]
    state = {"h": "float32[b, 4]", "c": "float32[b, 4]"}
    assert contents["functions"] == {
        "call": {
            "arguments": [{"x": "float32[b, t, 3]", "lengths": "int32[b]"}],
            "result": ["float32[b, t, 4]", state],
        },
        "start": {"arguments": ["float32[b, 3]"], "result": state},
        "step": {"arguments": [state, "float32[b, 3]"], "result": ["float32[b, 4]", state]},
    }


def test_sizes_of_the_callers_own():
    (n,) = jax.export.symbolic_shape("n", constraints=("n >= 2",))
    spec = jax.ShapeDtypeStruct((n, n), jnp.float32)
    program = interop.export_program(lambda x: x @ x, spec, shapes=None)
    assert program(np.eye(3, dtype=np.float32)).shape == (3, 3)
    with pytest.raises(ValueError, match="n >= 2"):
        program(np.eye(1, dtype=np.float32))


def test_what_does_not_fit_says_what_to_do():
    def sums(x):  # from the second step on
        return jax.lax.scan(lambda total, row: (total + row, total), x[0], x[1:])[1]

    with pytest.raises(jax.errors.InconclusiveDimensionOperation) as told:
        interop.export_program(sums, ONES, shapes="t, ...")
    assert "constraints=['t >= 2']" in told.value.__notes__[-1]
    spec = jax.export.symbolic_args_specs(ONES, "t, ...", constraints=["t >= 2"])
    program = interop.export_program(sums, spec, shapes=None)
    assert program(np.ones((3, 3), np.float32)).shape == (2, 3)
    with pytest.raises(ValueError, match="Rank mismatch") as told:
        program(ONES[0])
    notes = "\n".join(told.value.__notes__)
    assert "call(float32[t, 3])" in notes
    assert "x[None]" in notes


def test_an_example_of_64_bits_is_one_of_32_and_warns_of_nothing():
    program = interop.export_program(lambda x: x + 1, np.ones((1, 3), np.int64), shapes=None)
    assert "int32[1, 3]" in repr(program)


@struct.dataclass
class Pair:
    a: jax.Array


ONES = np.ones((1, 3), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"example": Pair(ONES)}, "example: expected arrays in tuples, .* got a Pair"),
        ({"call": Pair}, "result: expected arrays in tuples, .* got a Pair"),
        (
            {"shapes": "b, t, ..., c, d"},
            r"shapes: expected the axes of arrays of shapes \(1, 3\), got 'b, t,",
        ),
        (
            {"step": interop.Step(ONES, lambda x: x, lambda state, x: (x, x[:, :2]))},
            r"step: expected the state that start makes, .*3.*got .*2.*; return the outputs and the new state",
        ),
        ({"platforms": "cpu"}, "platforms: expected names of jax.export, .* in a tuple, got 'cpu'"),
        ({"platforms": ("gpu",)}, r"platforms: expected .* got \('gpu',\); write \('cuda',\)"),
    ],
    ids=["example", "result", "shapes", "step", "platform", "platforms"],
)
def test_what_cannot_be_a_program_is_named(change, message):
    arguments = {"call": lambda x: x, "example": ONES} | change
    with pytest.raises(ValueError, match=message):
        interop.export_program(arguments.pop("call"), arguments.pop("example"), **arguments)


def test_what_is_no_program_is_named():
    Path("a.jaxprogram").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"path: expected a file that Program.save wrote, got a.jaxprogram"):
        interop.load_program("a.jaxprogram")
    program = interop.export_program(lambda x: x, ONES, about={"classes": {1}})
    with pytest.raises(ValueError, match="about: expected values that JSON can hold, got Object of type set"):
        program.save("b.jaxprogram")
    with pytest.raises(ValueError, match="start: expected a program with a step, got one without"):
        program.start(ONES)
    assert [path.name for path in Path().iterdir()] == ["a.jaxprogram"]
    with zipfile.ZipFile("a.jaxprogram", "w") as file:
        file.writestr("program.json", '{"format": 2, "functions": {}, "about": {}, "jax": "1.0"}')
    with pytest.raises(ValueError, match=r"path: expected a program of format 1, got a.jaxprogram of format 2; a new"):
        interop.load_program("a.jaxprogram")


def test_a_program_shows_what_it_takes_and_says_who_can_read_it(monkeypatch):
    program = interop.export_program(lambda x: x, ONES, about={"classes": ["a"]})
    assert repr(program) == "Program\n  call(float32[b, 3]) -> float32[b, 3]\n  about: classes"

    def refuse(_):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: Failed to deserialize StableHLO")

    newer = interop.Program(program.functions, {}, "99.0")
    monkeypatch.setitem(newer._compiled, "call", refuse)
    with pytest.raises(ValueError, match=r"program: expected one that JAX .* reads, got one that JAX 99.0 wrote; inst"):
        newer(ONES)
