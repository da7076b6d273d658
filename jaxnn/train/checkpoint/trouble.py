"""Errors of checkpoints in one sentence, the same in every process of a job."""

import gc
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxnn.train.checkpoint.options import CheckpointError, CheckpointWarning
from jaxnn.train.devices import distributed


class DamagedError(CheckpointError):
    """This checkpoint cannot be read, whatever its run is."""


@contextmanager
def damage() -> Iterator[None]:
    """Turns an error in any process into a `DamagedError` in every process."""
    error = None
    try:
        yield
    except Exception as caught:
        if distributed.shows_lost_process(caught):
            raise
        error = caught
    if told := reason_anywhere(error):
        raise DamagedError(told) from error


def reason_anywhere(error: BaseException | None) -> str:
    """Returns the error of any process, in all; operating-system errors take precedence over time-outs."""
    return distributed.told(_refused(error)) or distributed.told("" if error is None else reason(error))


def _refused(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return str(error)
        error = error.__cause__ or error.__context__
    return ""


def reason(error: BaseException) -> str:
    """Returns the first line of the first cause, shortened."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) < 200 else line[:200] + "…"


def warn(text: str) -> None:
    """Warns in the first process only."""
    if distributed.is_first():
        warnings.warn(text, CheckpointWarning, stacklevel=3)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Orbax and TensorStore about a failed save, which `Saver` reports in one line.

    Orbax logs a traceback for each of its threads, asyncio one for each task that Orbax dropped, and TensorStore one
    for each array whose end it cannot report to the event loop that Orbax closed: thousands of lines in all.
    """
    loggers, before = [logging.getLogger(name) for name in ("absl", "asyncio")], sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    for logger in loggers:
        logger.addFilter(_not_of_orbax)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_not_of_orbax)
        if sys.unraisablehook is hook:
            sys.unraisablehook = before


def _not_of_orbax(record: logging.LogRecord) -> bool:
    trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
    return not any("orbax" in text for text in (record.pathname, record.getMessage(), trace))


def forget() -> None:
    """Frees tasks that a failed Orbax dropped, while `quiet`: Python reports them when it frees them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        gc.collect()
