"""The numbers of an epoch, from the metrics of its steps."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnn.train.checkpoint.options import Position
from jaxnn.train.run.record import Record


def sums(per_step: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sums each metric over the examples of the steps, the last axis; `examples` is their number."""
    weights = np.asarray(per_step["examples"], np.float64)
    totals = {name: (weights * values).sum(-1) for name, values in per_step.items() if name != "examples"}
    return {**totals, "examples": weights.sum(-1)}


def means(sums: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Divides sums by the number of examples; a mean of no examples is 0."""
    examples = np.asarray(sums["examples"])
    return {name: total / np.where(examples == 0, 1, examples) for name, total in sums.items() if name != "examples"}


def added(before: Mapping[str, float], per_step: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The sums over an epoch's examples, further steps of it added."""
    return {name: before.get(name, 0.0) + float(total) for name, total in sums(per_step).items()}


def of_epoch(epoch: int, step: int, position: Position) -> Record:
    """The record of an epoch that has ended."""
    rate = position.sums["examples"] / position.seconds
    times = {"seconds": position.seconds, "examples_per_second": rate}
    return {"epoch": epoch, "step": step, **_named("train", means(position.sums)), **times}


def names(trained: Mapping[str, Any], tested: Mapping[str, Any]) -> set[str]:
    """The names of the record of an epoch, from those of the metrics of its steps and of the evaluation."""
    train = {f"train_{name}" for name in trained if name != "examples"}
    return {"epoch", "step", "seconds"} | train | {f"test_{name}" for name in tested}


def with_test(record: Record, test: Mapping[str, Any]) -> Record:
    """The record with the test's metrics, before the times."""
    times = {name: record[name] for name in ("seconds", "examples_per_second")}
    return {**{name: value for name, value in record.items() if name not in times}, **_named("test", test), **times}


def _named(part: str, metrics: Mapping[str, Any]) -> Record:
    """Metrics as numbers of a record, the loss first: JAX returns dictionaries sorted."""
    names = sorted(metrics, key=lambda name: (name != "loss", name))
    return {f"{part}_{name}": float(metrics[name]) for name in names}
