"""Reads the pickles of CIFAR's Python version without unpickling them.

`pickle.load` runs whatever a pickle asks for. Here an opcode moves plain values between a stack and a memo, or it is
refused. Nothing is imported or called by name: the two constructors in the published files only mean an array of bytes.
"""

import mmap
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_DTYPE, _NDARRAY, _RECONSTRUCT = "numpy dtype", "numpy ndarray", "numpy.core.multiarray _reconstruct"


def read_pickle(path: Path) -> dict[str, Any]:
    """Reads a dictionary of integers, strings, lists and uint8 arrays, as Python 2 pickled it (protocol 2).

    Args:
        path: The file.

    Returns:
        The dictionary; strings are decoded as Latin-1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the pickle is damaged, or holds or asks for anything else.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            result = _Machine().run(content)
    # An IndexError comes of a stack that is too short, a KeyError of a memo that was not filled.
    except (_RefusedError, ValueError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a pickled batch of CIFAR, got a damaged file, or one that asks for more than that "
            f"({error or type(error).__name__}); nothing of it was run, unpack or download it again."
        ) from error
    if not isinstance(result, dict):
        raise ValueError(f"{path}: expected a pickled dictionary, got {type(result).__name__}; download it again.")
    return result


class _RefusedError(Exception):
    """The pickle is damaged, or asks for more than plain values."""


class _Name(str):
    """A global that a pickle names; it stays a name."""


class _UInt8:
    """Stands for `numpy.dtype("u1")`."""


class _Array:
    """Stands for an array between its construction and its contents."""

    def __init__(self) -> None:
        self.value: npt.NDArray[np.uint8] | None = None


class _Machine:
    """The part of the pickle machine that the published files need."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, content: mmap.mmap) -> Any:
        stack = self._stack
        operations: Iterator[Any] = pickletools.genops(content)  # type: ignore[arg-type]  # reads any file
        for opcode, argument, position in operations:
            match opcode.name:
                case "BINPUT" | "LONG_BINPUT":
                    self._memo[argument] = stack[-1]
                case "BININT" | "BININT1" | "BININT2" | "BINSTRING" | "SHORT_BINSTRING":
                    stack.append(argument)
                case "BINGET" | "LONG_BINGET":
                    stack.append(self._memo[argument])
                case "MARK":
                    self._marks.append(len(stack))
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "NONE" | "NEWFALSE" | "NEWTRUE":
                    stack.append({"NONE": None, "NEWFALSE": False, "NEWTRUE": True}[opcode.name])
                case "APPENDS":
                    items = self._since_mark()
                    _a(list, stack[-1]).extend(items)
                case "SETITEMS":
                    items = self._since_mark()
                    if len(items) % 2 or any(type(key) is not str for key in items[::2]):
                        raise _RefusedError(f"keys other than strings at byte {position}")
                    _a(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
                case "TUPLE":
                    stack.append(tuple(self._since_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack.append(tuple(self._pop(int(opcode.name[-1]))))
                case "GLOBAL":
                    stack.append(_Name(argument))
                case "REDUCE":
                    stack.append(_construct(*self._pop(2)))
                case "BUILD":
                    (state,) = self._pop(1)
                    _fill(stack[-1], state)
                case "PROTO":
                    pass
                case "STOP":
                    (result,) = self._pop(1)
                    return _plain(result)
                case name:
                    raise _RefusedError(f"the opcode {name} at byte {position}")
        raise _RefusedError("it ends early")

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
    """Returns the stand-in for the result of one of the two known constructors."""
    if type(name) is _Name and name == _DTYPE and arguments == ("u1", 0, 1):
        return _UInt8()
    if type(name) is _Name and name == _RECONSTRUCT and arguments == (_NDARRAY, (0,), "b"):
        return _Array()
    raise _RefusedError(f"a call of {str(name)[:80] if isinstance(name, str) else type(name).__name__}")


def _fill(target: Any, state: Any) -> None:
    """Gives an array its contents; the state of the dtype says only that bytes have no byte order."""
    if isinstance(target, _UInt8):
        return
    version, shape, dtype, columns_first, content = _a(tuple, state)
    if not isinstance(target, _Array) or version != 1 or not isinstance(dtype, _UInt8):
        raise _RefusedError("contents of something else than an array of bytes")
    array = np.frombuffer(_a(str, content).encode("latin-1"), np.uint8)
    target.value = array.reshape(_a(tuple, shape), order="F" if columns_first else "C")


def _plain(result: Any) -> Any:
    """A dictionary with the arrays themselves."""
    if not isinstance(result, dict):
        return result
    return {key: value.value if isinstance(value, _Array) else value for key, value in result.items()}


def _a(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise _RefusedError(f"{type(value).__name__} where a {kind.__name__} belongs")
    return value
