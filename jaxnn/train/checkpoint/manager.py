"""Orbax's manager of a folder of checkpoints, opened as `Saver` needs it, and quiet where a save fails."""

import gc
import logging
import math
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxnn.train.checkpoint.options import Checkpoints, criterion

PATIENCE = 600
"""Seconds to wait for all processes to write a checkpoint: if one cannot write its part, the others wait that long."""


def open_folder(folder: Path, options: Checkpoints, barrier: Callable[..., None]) -> Any:
    """Opens an Orbax `CheckpointManager`; `barrier` waits for the other processes, as Orbax's `barrier_sync_fn`."""
    import orbax.checkpoint as ocp
    from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

    kept, rank = [policy.LatestN(options.keep)], None
    if (by := criterion(options)) is not None:

        def rank(metrics: Mapping[str, float]) -> float:
            # None inside an epoch; and before the run was resumed another criterion may have counted.
            return metrics.get(by, math.inf)

        kept.append(policy.BestN(get_metric_fn=rank, reverse=True, n=1, keep_checkpoints_without_metrics=False))
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            preservation_policy=policy.AnyPreservationPolicy(kept),
            best_fn=rank,  # without it Orbax writes no metrics, and a resumed run would delete the best checkpoint
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(timeout_secs=PATIENCE, barrier_sync_fn=barrier),
        ),
    )


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
    """Frees the tasks that Orbax dropped when it failed, so that Python reports them while `quiet`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        gc.collect()
