"""Lays runs over one another: loss and accuracy of each over its epochs as one picture, and a table.

    python -m experiments.compare runs/lenet5 runs/lenet5-2
    python -m experiments.compare runs/* --out lenets.png

The table has each run's last and best metrics, its seconds of training, and the options in which the runs differ.
What cannot be compared, a folder without metrics over epochs or without one that the others have, is left out, and a
line says why.
"""

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnn import cli, plots, train
from jaxnn.inspect.summary import aligned
from jaxnn.plots.figure import words

History = Sequence[Mapping[str, Any]]
NO_SETTINGS = ("run", "resume")
"""Options that say where a run is, not what it is."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the comparison."""

    runs: tuple[Path, ...]
    """The run folders."""
    out: Path = Path("compare.png")
    """The picture; a number is added where it exists, nothing is overwritten."""


def main(options: Options) -> None:
    """Draws the picture and prints the table."""
    if not options.runs:
        raise ValueError("RUNS: expected at least one run folder, got none")
    out = options.out
    cli.expect("out", out, out.suffix == ".png", "a name that ends with .png")
    cli.expect("out", out, out.parent.is_dir(), "a picture in a folder that exists")
    histories: dict[str, History] = {}
    configs: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for path in dict.fromkeys(options.runs):  # one that is named twice is shown once
        try:
            histories[path.as_posix()], configs[path.as_posix()] = history_of(path), config_of(path)
        except (ValueError, OSError) as error:
            left_out[path.as_posix()] = str(error)
    histories, others = alike(histories)
    left_out |= others
    if not histories:
        raise ValueError("nothing can be compared: " + "; ".join(f"{run}: {why}" for run, why in left_out.items()))
    for name, why in left_out.items():
        print(f"left out: {name}: {why}", file=sys.stderr)
    metrics = common(histories)
    print(table(histories, metrics, configs))
    picture = unused(out)
    plots.compare(histories, picture, metrics)
    print(f"\nthe curves are in {picture}")


class LeftOutError(ValueError):
    """The reason why a run cannot be compared."""


def history_of(path: Path) -> History:
    """The records of a run, one an epoch; raises LeftOutError where none can be drawn."""
    if not path.is_dir():
        raise LeftOutError("it is a file" if path.exists() else "there is no such folder")
    if not (path / "metrics.jsonl").exists():
        raise LeftOutError("it has no metrics.jsonl")
    history = train.RunFolder(path).metrics()
    if not history:
        raise LeftOutError("its metrics.jsonl is empty")
    if not all(isinstance(record, dict) and "epoch" in record for record in history):
        raise LeftOutError("its metrics are not over epochs")
    if any(isinstance(value, list) for record in history for value in record.values()):
        raise LeftOutError("its metrics are of many networks at once")
    if not _metrics(history):
        raise LeftOutError("it has no metric of training or test")
    return history


def config_of(path: Path) -> dict[str, Any]:
    """The options of a run, none where it was started without."""
    file = path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise LeftOutError(f"its config.json is damaged: {error}") from None
    if not isinstance(config, dict):
        raise LeftOutError("its config.json is damaged: it holds no options")
    return config


def alike(histories: Mapping[str, History]) -> tuple[dict[str, History], dict[str, str]]:
    """The runs that have the metric which most of them have, and why each other one is left out."""
    has = Counter(name for history in histories.values() for name in common({"": history}))
    metric = max(has, key=has.__getitem__, default="")
    same = {run: history for run, history in histories.items() if metric in _metrics(history)}
    why = f"it has no {words(metric).removesuffix(' in %')}, which the others have"
    return same, {run: why for run in histories if run not in same}


def common(histories: Mapping[str, History]) -> list[str]:
    """The metrics that all runs have, `train_loss` for instance: losses first, training before test."""
    shared = set.intersection(*map(_metrics, histories.values()))
    return sorted(shared, key=lambda name: (_bare(name) != "loss", _bare(name), name.startswith("test_")))


def table(histories: Mapping[str, History], metrics: Sequence[str], configs: Mapping[str, Mapping[str, Any]]) -> str:
    """A line a run: epochs, seconds, last and best of each test metric, and options that are not the same in all."""
    tests = [name for name in metrics if name.startswith("test_")] or metrics
    options = differing(list(configs.values()))
    rows = [
        [
            *("run", "epochs", "seconds"),
            *(f"{which} {words(name).removesuffix(' in %')}" for name in tests for which in ("last", "best")),
            *map(cli.option, options),
        ]
    ]
    for label, history in histories.items():
        seconds = sum(record.get("seconds") or 0.0 for record in history)
        row = [label, str(len(history)), f"{seconds:.1f}"]
        for name in tests:
            values = [record[name] for record in history if record.get(name) is not None]
            best = max if name.endswith("accuracy") else min
            row += [shown(name, history[-1].get(name)), shown(name, best(values, default=None))]
        rows.append([*row, *(str(configs[label].get(name, "-")) for name in options)])
    return aligned(rows, "l" * len(rows[0]))


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The options whose values are not the same in all runs that have them."""
    values: dict[str, list[Any]] = {}
    for config in configs:
        for name, value in config.items():
            values.setdefault(name, []).append(value)
    return [name for name, (one, *more) in values.items() if name not in NO_SETTINGS and any(v != one for v in more)]


def shown(name: str, value: float | None) -> str:
    """A metric as a person reads it; a record's null was NaN or infinite."""
    if value is None:
        return "-"
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4g}"


def unused(path: Path) -> Path:
    """The path, or where there is something, the first free one with a number: `compare-2.png`."""
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def _metrics(history: History) -> set[str]:
    return {name for record in history for name in record if name.startswith(("train_", "test_"))}


def _bare(metric: str) -> str:
    return metric.removeprefix("train_").removeprefix("test_")


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
