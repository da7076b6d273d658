"""Peak memory of a call, as Linux counts it: the process's highest resident size in it, less what it held before."""

import contextlib
import ctypes
import time
from collections.abc import Callable

SETTLE = 0.05


def peak(work: Callable[[], object]) -> int | None:
    """Calls `work` and returns how many bytes of resident memory it added at its peak; None where Linux is not.

    What earlier calls freed is first given back to the system, or it would be used again unseen. XLA frees a little
    after it has answered.
    """
    time.sleep(SETTLE)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # starts the highest resident size anew
        before = _status("VmRSS")
        work()
        return max(_status("VmHWM") - before, 0)
    except OSError:
        work()
        return None


def _status(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))
