"""What went wrong with a checkpoint, in a sentence, and the same in every process of a job."""

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
    """This checkpoint cannot be read, whichever run it is of."""


@contextmanager
def damage() -> Iterator[None]:
    """Makes whatever fails, in any process, a `DamagedError` in every one."""
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
    """What went wrong in any process, told to all: what the system refused to one, rather than that others waited."""
    return distributed.told(_refused(error)) or distributed.told("" if error is None else reason(error))


def _refused(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return str(error)
        error = error.__cause__ or error.__context__
    return ""


def reason(error: BaseException) -> str:
    """The first line of the first cause, short enough to read."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) < 200 else line[:200] + "…"


def warn(text: str) -> None:
    """One process speaks for all."""
    if distributed.is_first():
        warnings.warn(text, CheckpointWarning, stacklevel=3)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps what Orbax and TensorStore print about a save that failed off the terminal: `Saver` reports it in a line.

    Orbax logs a traceback for each of its threads, and asyncio one for each task that Orbax dropped. TensorStore prints
    one for each array whose end it cannot announce in the event loop that Orbax closed: thousands of lines in all.
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
    """Frees what Orbax dropped when it failed, while `quiet`: Python reports such tasks when it frees them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        gc.collect()
