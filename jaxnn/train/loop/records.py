"""The numbers of an epoch, from the metrics of its steps."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnn.train.run.record import Record


def sums(per_step: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sums each metric over the examples of the steps, the last axis; `examples` is their number."""
    weights = np.asarray(per_step["examples"], np.float64)
    totals = {name: (weights * values).sum(-1) for name, values in per_step.items() if name != "examples"}
    return {**totals, "examples": weights.sum(-1)}


def means(sums: Mapping[str, Any], test: Mapping[str, Any]) -> Record:
    """The means of an epoch and the metrics of its evaluation, as numbers of a record, or lists of one per member.

    A mean of no examples is 0.
    """
    examples = np.asarray(sums["examples"])
    learned = {name: total / np.where(examples == 0, 1, examples) for name, total in sums.items() if name != "examples"}
    record: Record = {}
    for part, metrics in (("train", learned), ("test", test)):
        # The loss first: JAX returns dictionaries sorted.
        for name in sorted(metrics, key=lambda name: (name != "loss", name)):
            record[f"{part}_{name}"] = np.asarray(metrics[name]).tolist()
    return record


def names(trained: Mapping[str, Any], tested: Mapping[str, Any]) -> set[str]:
    """The names of the record of an epoch, from those of the metrics of its steps and of the evaluation."""
    train = {f"train_{name}" for name in trained if name != "examples"}
    return {"epoch", "step", "seconds"} | train | {f"test_{name}" for name in tested}
