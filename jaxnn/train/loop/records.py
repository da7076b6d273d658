"""The numbers of an epoch, from the metrics of its steps."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnn.train.checkpoint.options import Position
from jaxnn.train.run.record import Record


def added(sums: Mapping[str, float], per_step: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The sums over an epoch's examples, further steps of it added."""
    weights = np.asarray(per_step["examples"], np.float64)
    more = {name: float(np.sum(weights * values)) for name, values in per_step.items() if name != "examples"}
    more["examples"] = float(weights.sum())
    return {name: sums.get(name, 0.0) + value for name, value in more.items()}


def of_epoch(epoch: int, step: int, position: Position) -> Record:
    """The record of an epoch that has ended."""
    sums = dict(position.sums)
    examples = sums.pop("examples")
    means = {name: total / (examples or 1.0) for name, total in sums.items()}
    times = {"seconds": position.seconds, "examples_per_second": examples / position.seconds}
    return {"epoch": epoch, "step": step, **_named("train", means), **times}


def with_test(record: Record, test: Mapping[str, Any]) -> Record:
    """The record with the test's metrics, before the times."""
    times = {name: record[name] for name in ("seconds", "examples_per_second")}
    return {**{name: value for name, value in record.items() if name not in times}, **_named("test", test), **times}


def _named(part: str, metrics: Mapping[str, Any]) -> Record:
    """Metrics as numbers of a record, the loss first: JAX returns dictionaries sorted."""
    names = sorted(metrics, key=lambda name: (name != "loss", name))
    return {f"{part}_{name}": float(metrics[name]) for name in names}
