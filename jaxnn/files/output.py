"""Standard output and error that never abort a training: they escape what they cannot show and skip failed writes."""

import contextlib
import io
import os
import sys


class _Unfailing(io.RawIOBase):
    """A file whose writes never raise; it reports the first failure to the descriptor `told`, if it can be written."""

    def __init__(self, file: int, name: str, told: int | None) -> None:
        self._file, self._name, self._told = file, name, told

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file

    def isatty(self) -> bool:
        return os.isatty(self._file)

    def write(self, text: "io.ReadableBuffer") -> int:  # type: ignore[name-defined]
        try:
            return os.write(self._file, text)
        except OSError as error:
            if self._told is not None:
                said = f"{self._name} cannot be written ({error.strerror}); the experiment continues without it\n"
                with contextlib.suppress(OSError):
                    os.write(self._told, said.encode())
                self._told = None
            return len(memoryview(text).cast("B"))


def steady_output() -> None:
    r"""Makes printing safe for the rest of the process.

    A terminal or a log in ASCII gets `\xb0` for a degree sign, and a full disk loses the printed text, not the
    training.
    """
    for name, told in (("stdout", 2), ("stderr", None)):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper or isinstance(getattr(stream.buffer, "raw", None), _Unfailing):
            continue  # not Python's own, for example a notebook's
        stream.flush()
        raw = _Unfailing(stream.fileno(), f"standard {'output' if name == 'stdout' else 'error'}", told)
        buffer = io.BufferedWriter(raw)
        line = stream.line_buffering or name == "stderr"
        setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=line))
