"""The checkpoint manager of Orbax: which checkpoints it keeps, and how processes wait for each other."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxnn.train.checkpoint.options import Checkpoints, Position

_PATIENCE = 600
"""Seconds that processes wait for each other to write a checkpoint, since one may fail to write its part."""


def open_manager(folder: Path, options: Checkpoints, meet: Callable[..., None]) -> Any:
    """Opens Orbax's manager of a folder; `meet(key=, timeout_ms=)` waits for the other processes."""
    import orbax.checkpoint as ocp
    from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

    kept: list[Any] = [policy.LatestN(options.keep)]
    if options.best is not None:
        kept.append(
            policy.BestN(
                get_metric_fn=lambda metrics: metrics["rank"],
                reverse=True,
                n=1,
                keep_checkpoints_without_metrics=False,
            )
        )
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            preservation_policy=policy.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(timeout_secs=_PATIENCE, barrier_sync_fn=meet),
        ),
    )


def rank(best: str | None, position: Position) -> dict[str, float] | None:
    """Ranks a checkpoint by the last value of `best` in the history, lower is better; None inside an epoch."""
    if best is None or position.sums or not position.history:
        return None
    if best not in position.history[-1]:
        raise ValueError(f"best: expected one of {sorted(position.history[-1])}, got {best!r}")
    value = position.history[-1][best]
    value = math.inf if value is None or not math.isfinite(value) else float(value)
    return {"rank": -value if best.endswith("accuracy") else value}
