"""Reads the pickles of CIFAR's Python version, without running what a pickle asks for.

`pickle.load` imports and calls whatever a pickle names. Here only the opcodes of the published files are accepted, and
the three names in them stand for classes of this file, which only mean an array of bytes.
"""

import io
import pickle
import pickletools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_ACCEPTED = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "EMPTY_DICT", "SETITEMS", "EMPTY_LIST", "APPENDS"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2"),
    *("BINSTRING", "SHORT_BINSTRING", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT"),
}


def read_pickle(path: Path) -> dict[bytes, Any]:
    """Reads a dictionary of integers, strings, lists and uint8 arrays, as Python 2 pickled it (protocol 2).

    Args:
        path: The file.

    Returns:
        The dictionary; strings are bytes, as Python 2 had them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the pickle is damaged, or holds or asks for anything else.
    """
    content = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about backslashes in damaged names
            _check_opcodes(content)
        result = _Unpickler(io.BytesIO(content), fix_imports=False, encoding="bytes").load()
        if isinstance(result, dict) and any(type(key) is not bytes for key in result):
            raise _RefusedError("keys other than strings")
    except (
        *(_RefusedError, pickle.UnpicklingError, EOFError, ValueError),
        *(AttributeError, IndexError, KeyError, TypeError),
    ) as error:
        raise ValueError(
            f"{path}: expected a pickled batch of CIFAR, got a damaged file, or one that asks for more than that "
            f"({error or type(error).__name__}); nothing of it was run, unpack or download it again."
        ) from error
    if not isinstance(result, dict):
        raise ValueError(f"{path}: expected a pickled dictionary, got {type(result).__name__}; download it again.")
    return {key: value.value if isinstance(value, _Array) else value for key, value in result.items()}


class _RefusedError(Exception):
    """The pickle is damaged, or asks for more than plain values."""


def _check_opcodes(content: bytes) -> None:
    """Raises where a pickle holds another opcode, or a place in the memo up to which Python would fill the memory."""
    for opcode, argument, position in pickletools.genops(content):
        if opcode.name not in _ACCEPTED:
            raise _RefusedError(f"the opcode {opcode.code.encode('latin-1')!r} at byte {position}")
        if opcode.name == "LONG_BINPUT" and (argument or 0) > len(content):
            raise _RefusedError(f"the place {argument} of the memo at byte {position}")


class _Unpickler(pickle.Unpickler):
    """Finds classes in this file only, whatever the pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        known = {"numpy dtype": _UInt8, "numpy ndarray": _Kind, "numpy.core.multiarray _reconstruct": _Array}
        if f"{module} {name}" not in known:
            raise _RefusedError(f"a call of {module[:80]}.{name[:80]}")
        return known[f"{module} {name}"]


class _Kind:
    """`numpy.ndarray`, the kind of array that `_reconstruct` makes."""


class _UInt8:
    """`numpy.dtype("u1")`."""

    def __init__(self, *arguments: Any) -> None:
        if arguments != (b"u1", 0, 1):
            raise _RefusedError("a dtype other than bytes")

    def __setstate__(self, state: Any) -> None:
        """Ignores the state: it says that bytes have no byte order."""


class _Array:
    """An array that `numpy.core.multiarray._reconstruct` makes empty, and whose state is its contents."""

    def __init__(self, *arguments: Any) -> None:
        if arguments != (_Kind, (0,), b"b"):
            raise _RefusedError("an array of another kind")
        self.value: npt.NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, _, columns_first, content = state
        self.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if columns_first else "C")
