import os
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn.data.pickled import read_pickle
from tests.data.forms import pickled

ROWS = np.arange(20, dtype=np.uint8).reshape(4, 5)
VALUES = {"batch_label": "one", "labels": [3, 300, -70_000, 9], "filenames": ["a.png"] * 300, "data": ROWS}
SOUND = pickled(VALUES)


def read(content):
    Path("batch").write_bytes(content)
    return read_pickle(Path("batch"))


@pytest.mark.parametrize("columns_first", [False, True])
def test_reads_what_pickle_reads(columns_first):
    content = pickled(VALUES, columns_first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy.core is of old
        expected = pickle.loads(content, encoding="bytes")
    got = read(content)
    assert list(got) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value)
    np.testing.assert_array_equal(got[b"data"], ROWS, strict=True)


class Evil:
    def __init__(self, call, *arguments):
        self.call = (call, arguments)

    def __reduce__(self):
        return self.call


GLOBAL, ARGUMENT = b"cos\nmkdir\n", b"U\x03ran"
ATTACKS = {
    **{f"protocol {p}": pickle.dumps(Evil(os.mkdir, "ran"), p) for p in range(6)},
    **{f"in a batch, protocol {p}": pickle.dumps({"data": Evil(os.mkdir, "ran")}, p) for p in range(6)},
    "exec": pickle.dumps(Evil(exec, "import os; os.mkdir('ran')"), 2),
    "REDUCE": b"\x80\x02" + GLOBAL + ARGUMENT + b"\x85R.",
    "REDUCE within the sound batch": SOUND[:-2] + b"U\x04more" + GLOBAL + ARGUMENT + b"\x85Ru.",
    "OBJ": b"\x80\x02(" + GLOBAL + ARGUMENT + b"o.",
    "INST": b"\x80\x02(" + ARGUMENT + b"ios\nmkdir\n.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + ARGUMENT + b"\x85R.",
    "a name built of strings": b"\x80\x02U\x08os mkdir" + ARGUMENT + b"\x85R.",
    "numpy's own names, other arguments": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n"
    + GLOBAL
    + b"K\0\x85U\x01b\x87R.",
    "NEWOBJ": b"\x80\x02cpathlib\nPath\n)\x81.",
    "BUILD of a name": b"\x80\x02" + GLOBAL + b"}b.",
    "EXT1": b"\x80\x02\x82\x01.",
    "PERSID": b"Pos\n.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_run(attack, monkeypatch):
    monkeypatch.setattr("builtins.__import__", _no_import(__import__))
    with pytest.raises(ValueError, match=r"batch: expected a pickled batch of CIFAR, got .* nothing of it was run"):
        read(ATTACKS[attack])
    assert os.listdir() == ["batch"]


def _no_import(real):
    def import_(name, *rest):
        assert name not in ("os", "posix", "builtins"), "a pickle imported something"
        return real(name, *rest)

    return import_


@pytest.mark.parametrize("attack", ["protocol 0", "protocol 2", "protocol 5", "exec", "REDUCE", "OBJ", "INST"])
def test_the_attacks_are_real(attack):
    pickle.loads(ATTACKS[attack])
    assert os.path.isdir("ran")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b".", "stack underflow"),
        (SOUND[:-1], "exhausted before seeing STOP"),
        (SOUND[:40], "damaged"),
        (b"\x80\x02q\0.", "damaged"),
        (b"\x80\x02h\7.", "damaged"),
        (b"\x80\x02]K\1e.", "damaged"),
        (b"\x80\x02}(K\1K\2u.", "keys other than strings"),
        (b"\x80\x02}(U\1au.", "odd number of items"),
        (b"\x80\x02K\1(K\2e.", "'int' object"),
        (b"\x80\x02]r\xff\xff\xff\xff.", "place 4294967295 of the memo at byte 3"),
        (b"\x80\x02]\x94.", r"the opcode .*x94. at byte 3"),
        (b"T" + struct.pack("<i", 2**31 - 1) + b"x", "damaged"),
        (b"\x8e" + struct.pack("<Q", 2**62) + b"x", "damaged"),
        (b"\x80\x02K\1.", "expected a pickled dictionary, got int"),
        (b"\x80\x02].", "expected a pickled dictionary, got list"),
    ],
    ids=repr,
)
def test_damage_is_named(content, message):
    with pytest.raises(ValueError, match=rf"batch: .*({message})"):
        read(content)


def test_no_such_file():
    with pytest.raises(FileNotFoundError):
        read_pickle(Path("none"))


SMALL = pickled({"labels": [1, 2], "data": ROWS})


@given(
    place=st.integers(0, len(SMALL) - 1),
    new=st.one_of(st.binary(max_size=3), st.sampled_from([b"R", b"b", b"(", b"t", b"e", b"u", b".", b"0", b"2", b"i"])),
    cut=st.integers(0, 4),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_whatever_the_bytes_there_is_a_dictionary_or_a_clear_error(place, new, cut):
    content = SMALL[:place] + new + SMALL[place + cut :]
    try:
        result = read(content)
    except ValueError as error:
        result = {"told": str(error).startswith("batch: expected")}
    assert isinstance(result, dict)
    assert result.get("told", True)
