"""Reads the pickles of CIFAR's Python version without unpickling them.

`pickle.load` runs whatever a pickle asks for. Here an opcode moves plain values between a stack and a memo, or it is
refused. Nothing is imported or called by name: the two constructors in the published files only mean an array of bytes.
"""

import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_DTYPE, _NDARRAY, _RECONSTRUCT = b"numpy dtype", b"numpy ndarray", b"numpy.core.multiarray _reconstruct"
# The number that follows an opcode: a value, a place in the memo, a length, or the protocol.
_NUMBERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"U": "<B", b"T": "<i"}
_NUMBERS |= {b"q": "<B", b"r": "<I", b"h": "<B", b"j": "<I", b"\x80": "<B"}
_CONSTANTS = {b"N": None, b"\x89": False, b"\x88": True}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}


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
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            result = _Machine(content).run()
    # An IndexError comes of a stack that is too short, a KeyError of a memo that was not filled.
    except (_RefusedError, ValueError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a pickled batch of CIFAR, got a damaged file, or one that asks for more than that "
            f"({error or type(error).__name__}); nothing of it was run, unpack or download it again."
        ) from error
    if not isinstance(result, dict):
        raise ValueError(f"{path}: expected a pickled dictionary, got {type(result).__name__}; download it again.")
    return {key: value.value if isinstance(value, _Array) else value for key, value in result.items()}


class _RefusedError(Exception):
    """The pickle is damaged, or asks for more than plain values."""


class _Name(bytes):
    """A global that a pickle names; it stays a name."""


class _UInt8:
    """Placeholder for `numpy.dtype("u1")`."""


class _Array:
    """Placeholder for an array between its construction and its contents."""

    def __init__(self) -> None:
        self.value: npt.NDArray[np.uint8] | None = None


class _Machine:
    """The part of the pickle machine that the published files need."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._position = content, 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        stack, memo = self._stack, self._memo
        while True:
            code = self._take(1)
            number = 0
            if code in _NUMBERS:
                (number,) = struct.unpack(_NUMBERS[code], self._take(struct.calcsize(_NUMBERS[code])))
            match code:
                case b"q" | b"r":  # BINPUT, LONG_BINPUT
                    memo[number] = stack[-1]
                case b"K" | b"M" | b"J":  # BININT1, BININT2, BININT
                    stack.append(number)
                case b"U" | b"T":  # SHORT_BINSTRING, BINSTRING
                    stack.append(self._take(number))
                case b"h" | b"j":  # BINGET, LONG_BINGET
                    stack.append(memo[number])
                case b"(":  # MARK
                    self._marks.append(len(stack))
                case b"}":  # EMPTY_DICT
                    stack.append({})
                case b"]":  # EMPTY_LIST
                    stack.append([])
                case b"N" | b"\x88" | b"\x89":  # NONE, NEWTRUE, NEWFALSE
                    stack.append(_CONSTANTS[code])
                case b"e":  # APPENDS
                    items = self._since_mark()
                    _a(list, stack[-1]).extend(items)
                case b"u":  # SETITEMS
                    items = self._since_mark()
                    if len(items) % 2 or any(type(key) is not bytes for key in items[::2]):
                        raise _RefusedError(f"keys other than strings at byte {self._position}")
                    _a(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
                case b"t":  # TUPLE
                    stack.append(tuple(self._since_mark()))
                case b"\x85" | b"\x86" | b"\x87":  # TUPLE1, TUPLE2, TUPLE3
                    stack.append(tuple(self._pop(_TUPLES[code])))
                case b"c":  # GLOBAL
                    stack.append(_Name(self._line() + b" " + self._line()))
                case b"R":  # REDUCE
                    stack.append(_construct(*self._pop(2)))
                case b"b":  # BUILD
                    (state,) = self._pop(1)
                    _fill(stack[-1], state)
                case b"\x80":  # PROTO
                    pass
                case b".":  # STOP
                    return self._pop(1)[0]
                case _:
                    raise _RefusedError(f"the opcode {code!r} at byte {self._position - 1}")

    def _take(self, count: int) -> bytes:
        start, end = self._position, self._position + count
        if not start <= end <= len(self._content):
            raise _RefusedError("it ends early")
        self._position = end
        return self._content[start:end]

    def _line(self) -> bytes:
        return self._take(self._content.find(b"\n", self._position) + 1 - self._position)[:-1]

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise _RefusedError("a stack that is too short")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items


def _construct(name: Any, arguments: Any) -> _UInt8 | _Array:
    """Returns the placeholder for the result of one of the two known constructors."""
    if type(name) is _Name and name == _DTYPE and arguments == (b"u1", 0, 1):
        return _UInt8()
    if type(name) is _Name and name == _RECONSTRUCT and arguments == (_NDARRAY, (0,), b"b"):
        return _Array()
    raise _RefusedError(f"a call of {bytes(name)[:80]!r}" if isinstance(name, bytes) else "a call of no name")


def _fill(target: Any, state: Any) -> None:
    """Gives an array its contents; the state of the dtype says only that bytes have no byte order."""
    if isinstance(target, _UInt8):
        return
    version, shape, dtype, columns_first, content = _a(tuple, state)
    if not isinstance(target, _Array) or version != 1 or not isinstance(dtype, _UInt8):
        raise _RefusedError("contents of something else than an array of bytes")
    array = np.frombuffer(_a(bytes, content), np.uint8)
    target.value = array.reshape(_a(tuple, shape), order="F" if columns_first else "C")


def _a(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise _RefusedError(f"{type(value).__name__} where a {kind.__name__} belongs")
    return value
