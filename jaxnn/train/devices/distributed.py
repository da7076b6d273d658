"""Several processes as one job: how they find each other, and the error when one of them is lost."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxnn.counts import check_count

_MAY_BREAK_OFF = (
    "gloo",
    "nccl",
    "connection closed by peer",
    "connection reset by peer",
    "coordination service",
    "unavailable:",
    "deadline_exceeded:",
    "heartbeat",
)

_LONGEST = 4096
"""Bytes of a text that processes send each other."""


class ProcessLostError(RuntimeError):
    """Another process of the job died."""


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    *,
    detect: bool = False,
    timeout: int = 300,
    heartbeat: int = 60,
) -> bool:
    """Joins the processes of a job, so that `jax.devices()` are those of all of them. Call it before other JAX calls.

    Either all of `coordinator`, `processes` and `process_id` are given, or none: then SLURM (`srun` with several
    tasks), Open MPI and TPU pods whose environment names several workers are recognised, and any other process is
    a separate job.

    Args:
        coordinator: `host:port` of process 0, a free port there that all others reach.
        processes: Number of processes.
        process_id: Number of this process, from 0.
        detect: Lets `jax.distributed` look for a job even where the environment does not show one: on Cloud TPU
            machines and Kubernetes it asks the machine's metadata.
        timeout: Seconds to wait for all processes to come.
        heartbeat: Seconds without a signal after which a process counts as dead; then the others are ended.

    Returns:
        Whether this is a job of several processes. If not all of them join in time, the call does not return: the
        process prints an error and ends with status 1, since nothing else can end the waiting. In a job an error that
        nobody catches ends its process at once, by `sys.excepthook`: the others would wait for it for minutes.

    Raises:
        ValueError: If the three do not fit together, or the environment does not describe a job.

    Example:
        >>> from jaxnn.train.devices import distributed
        >>> distributed.initialize()  # no job here
        False
        >>> distributed.initialize("localhost:1234", processes=2, process_id=2)
        Traceback (most recent call last):
            ...
        ValueError: process_id: expected 0 to 1, for 2 processes, got 2
    """
    given = [coordinator, processes, process_id]
    if not any(value is not None for value in given):
        if not (detect or _several(os.environ)):
            return False
    elif coordinator is None or processes is None or process_id is None:
        raise ValueError(
            "coordinator, processes and process_id: expected all three or none, got "
            f"{coordinator!r}, {processes!r} and {process_id!r}"
        )
    else:
        _check(coordinator, processes, process_id)
    if coordinator is None:
        missing = f"not all processes of the job came within {timeout} s"
    else:
        missing = (
            f"process {process_id} of {processes}: not all of them came to {coordinator} within {timeout} s; start "
            "each one with the same coordinator and number of processes, and its own process_id"
        )
    # JAX's own time-out aborts the process with a stack trace of C++, so ours comes first.
    watch = threading.Timer(timeout, leave, ["error: " + missing])
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            cluster_detection_method=None if coordinator is None else "deactivate",
            initialization_timeout=timeout + 60,
            heartbeat_timeout_seconds=heartbeat,
        )
    except ValueError as error:
        raise ValueError(
            "coordinator: expected one, or an environment that describes the job, got neither; give coordinator, "
            f"processes and process_id ({reason(error)})."
        ) from error
    finally:
        watch.cancel()
    several = jax.process_count() > 1
    if several:
        sys.excepthook = partial(_leave_after, sys.excepthook)
    return several


@contextlib.contextmanager
def tell_of_lost_processes() -> Iterator[None]:
    """Turns errors of a broken connection into a `ProcessLostError`; decorates functions too.

    On CPU a collective fails at once when another process died. Where processes wait without an end (collectives on
    GPU and TPU, the writing of a checkpoint), JAX ends the process itself, with a message, after `heartbeat` seconds.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not shows_lost_process(error):
            raise
        raise ProcessLostError(
            f"process {jax.process_index()} of {jax.process_count()} lost the connection to another one, which died or "
            "was ended: see its own output; nothing more can be computed. Start all processes again, from the last "
            f"checkpoint if there is one ({reason(error)})."
        ) from error


def shows_lost_process(error: BaseException | None) -> bool:
    """Whether an error is what a broken connection to another process raises."""
    if jax.process_count() == 1 or not isinstance(error, jax.errors.JaxRuntimeError | ValueError):
        return False
    return any(sign in str(error).lower() for sign in _MAY_BREAK_OFF)


def leave(message: str, status: int = 1) -> NoReturn:
    """Ends this process after an error without waiting for the others, which then fail too.

    A usual exit would wait for them, and they for this one.
    """
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)


def _leave_after(show: Callable[..., object], kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Prints an uncaught error, and ends the process."""
    show(kind, error, trace)
    # All processes raise an `Interrupted` together, and leave the job in order.
    if issubclass(kind, Exception) or kind is KeyboardInterrupt:
        leave("this process leaves its job: the error is above", 1 if issubclass(kind, Exception) else 130)


def is_first() -> bool:
    """Whether this is the process that writes files and prints: process 0, or the only one."""
    return jax.process_index() == 0


def anywhere(here: bool) -> bool:
    """Whether `here` is true in any process, so that all of them decide alike."""
    if jax.process_count() == 1:
        return here
    return bool(np.any(multihost_utils.process_allgather(np.asarray(here))))


def told(text: str) -> str:
    """Broadcasts the first text, for example an error, that is not empty in a process; empty if none has one."""
    if jax.process_count() == 1:
        return text
    return next((f"process {number}: {each}" for number, each in enumerate(_texts(text)) if each), "")


def reason_anywhere(error: BaseException | None) -> str:
    """Broadcasts why a process failed to every process; empty if none failed.

    Operating-system errors take precedence over time-outs of the processes that waited for the one that failed.
    """
    if not anywhere(error is not None):
        return ""
    return told(_refused(error)) or told("" if error is None else reason(error))


def check_same(name: str, here: str, advice: str) -> None:
    """Checks that something is the same in all processes, which otherwise wait for each other, or compute nonsense.

    Args:
        name: The argument.
        here: What this process has, as a text; its first 4096 bytes are compared.
        advice: What to do.

    Raises:
        ValueError: In every process, if it differs.
    """
    if jax.process_count() == 1:
        return
    texts = _texts(here)
    for number, text in enumerate(texts):
        if text != texts[0]:
            raise ValueError(
                f"{name}: expected the same in all processes of the job, got different ones, {texts[0]} in process 0 "
                f"and {text} in process {number}; {advice}."
            )


def reason(error: BaseException) -> str:
    """The first line of the first cause of an error, at most 200 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) < 200 else line[:200] + "…"


def same_text(text: str) -> str:
    """Broadcasts the text of process 0, for example a name that it chose, to every process."""
    size = len(text.encode())
    if size > _LONGEST:
        raise ValueError(f"text: expected at most {_LONGEST} bytes, got {size}")
    return text if jax.process_count() == 1 else _texts(text)[0]


def same_array(array: np.ndarray) -> np.ndarray:
    """Broadcasts an array of process 0, for example what it read from its clock, to every process."""
    return array if jax.process_count() == 1 else np.asarray(multihost_utils.broadcast_one_to_all(array))


def _texts(text: str) -> list[str]:
    """Returns the texts of all processes, cut to `_LONGEST` bytes, in every process."""
    mine = np.frombuffer(text.encode()[:_LONGEST].ljust(_LONGEST, b"\0"), np.uint8)
    rows = multihost_utils.process_allgather(mine)
    return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in rows]


def _refused(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return str(error)
        error = error.__cause__ or error.__context__
    return ""


def _several(environment: os._Environ[str] | dict[str, str]) -> bool:
    """Whether the environment shows a job of several processes, of which this is one."""
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if environment.get(name, "").isdigit() and int(environment[name]) > 1:
            return True
    return any("," in environment.get(name, "") for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"))


def _check(coordinator: str, processes: int, process_id: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"coordinator: expected host:port, got {coordinator!r}")
    check_count("processes", processes)
    if not 0 <= process_id < processes:
        raise ValueError(f"process_id: expected 0 to {processes - 1}, for {processes} processes, got {process_id}")
