"""Defers SIGTERM and Ctrl-C to the next safe point."""

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax


class Interrupted(KeyboardInterrupt):
    """A signal stopped training, after a checkpoint.

    Args:
        which: The signal.
        step: The step after which training stopped.
        saved: Whether that step is on the disk.
        folder: The folder of the checkpoints.

    Attributes:
        signal: The signal, `signal.SIGINT` (Ctrl-C) or `signal.SIGTERM`.
        step: The step after which training stopped.
        saved: Whether that step is on the disk; if not, a `CheckpointWarning` gives the reason.
        folder: The folder of the checkpoints.
    """

    def __init__(self, which: signal.Signals, step: int, *, saved: bool, folder: Path):
        super().__init__(
            f"{which.name} stopped training after step {step}, which {'is' if saved else 'is NOT'} saved in {folder}"
        )
        self.signal, self.step, self.saved, self.folder = which, step, saved, folder


class StopRequest:
    """A request to stop; `received` is the signal that made it, or None."""

    received: signal.Signals | None = None


@contextmanager
def on_signals(say: Any) -> Iterator[StopRequest]:
    """Turns the first SIGINT or SIGTERM into a request to stop, and says so; a second one ends the process at once.

    Python handles signals in the main thread only; in other threads nothing changes. Neither does a handler that was
    not set in Python, as where R or another program runs Python in itself: Python could not put it back.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: Any) -> None:
        request.received = signal.Signals(number)
        for which in before:
            signal.signal(which, signal.SIG_DFL)
        say(f"{request.received.name}: saving after the program that runs now, then stopping; once more stops at once")

    ours = [which for which in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(which) is not None]
    before = {which: signal.signal(which, ask) for which in ours}
    try:
        yield request
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def fetch(arrays: Any) -> Any:
    """Calls `jax.device_get`; signals arrive meanwhile, since the main thread waits in Python and not in XLA."""
    with ThreadPoolExecutor(1) as waiting:
        return waiting.submit(jax.device_get, arrays).result()
