"""Peak memory of a call, as Linux counts it: the highest resident size of the process, less the size before."""

import contextlib
import ctypes
import time

from experiments.bench.case import Work

SETTLE = 0.05
"""Seconds after which XLA has freed the memory of an earlier call: it frees a little after it has answered."""


def peak(work: Work) -> int | None:
    """Calls `work` and returns the bytes of resident memory that it added at its peak; None if not on Linux.

    Before the call, the system gets back the memory that earlier calls freed. Otherwise `work` could use it uncounted.
    """
    time.sleep(SETTLE)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # only glibc has it
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # resets the highest resident size
        before = _status("VmRSS")
        work()
        return max(_status("VmHWM") - before, 0)
    except OSError:
        work()
        return None


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))
