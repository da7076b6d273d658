"""Compares runs: a picture of their losses and accuracies over the epochs, and a table.

    python -m experiments.compare runs/lenet5 runs/lenet5-2
    python -m experiments.compare runs/* --out lenets.png

The table has each run's last and best metrics, its seconds of training, and the options that differ. Runs that cannot
be compared are left out, with a line that gives the reason.
"""

import dataclasses
import itertools
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from jaxnn import cli, plots, train
from jaxnn.files.replace import free_path
from jaxnn.inspect.summary import aligned
from jaxnn.plots.figure import words
from jaxnn.train.run import History

NO_SETTINGS = ("run", "resume")
"""Options that say where a run is kept, not how it was trained."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the comparison."""

    runs: tuple[Path, ...]
    """The run folders."""
    out: Path = Path("compare.png")
    """The picture to write; if it exists, a number is added, and nothing is overwritten."""


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
    for run, path in ((path.as_posix(), path) for path in options.runs):
        try:
            histories[run], configs[run] = read(path)
        except (ValueError, OSError) as error:
            left_out[run] = str(error)
    # Compares the runs that have the most common metric.
    has = Counter(name for history in histories.values() for name in common([history]))
    metric = max(has, key=has.__getitem__, default="")
    for run in [run for run, history in histories.items() if metric not in common([history])]:
        left_out[run] = f"it has no {words(metric).removesuffix(' in %')}, which the others have"
        del histories[run]
    if not histories:
        raise ValueError("nothing can be compared: " + "; ".join(f"{run}: {why}" for run, why in left_out.items()))
    for run, why in left_out.items():
        print(f"left out: {run}: {why}", file=sys.stderr)
    metrics = common(list(histories.values()))
    print(table(histories, metrics, configs))
    picture = free_path(out)
    try:
        plots.compare(histories, picture, metrics)
    except OSError as error:
        raise OSError(f"--out: {picture} cannot be written ({error.strerror}); choose another folder.") from error
    print(f"\nthe curves are in {picture}")


class LeftOutError(ValueError):
    """The reason why a run cannot be compared."""


def read(path: Path) -> tuple[History, dict[str, Any]]:
    """Reads the records of a run, one per epoch, and its options; raises LeftOutError if no metric can be drawn."""
    if not path.is_dir():
        raise LeftOutError("there is no such folder")
    if not (path / "metrics.jsonl").exists():
        raise LeftOutError("it has no metrics.jsonl")
    history = train.RunFolder(path).metrics()
    if not history or not all(isinstance(record, dict) and "epoch" in record for record in history):
        raise LeftOutError("its metrics are not over epochs")
    if any(isinstance(value, list) for record in history for value in record.values()):
        raise LeftOutError("its metrics are of many networks at once")
    if not common([history]):
        raise LeftOutError("it has no metric of training or test")
    file = path / "config.json"
    try:
        return history, dict(json.loads(file.read_text(encoding="utf-8")) if file.exists() else {})
    except (ValueError, TypeError) as error:
        raise LeftOutError(f"its config.json is damaged: {error}") from None


def common(histories: list[History]) -> list[str]:
    """Returns the metrics that all runs have, for example `train_loss`: losses first, training before test."""

    def place(name: str) -> tuple[bool, str, bool]:
        bare = name.removeprefix("train_").removeprefix("test_")
        return bare != "loss", bare, name.startswith("test_")

    shared = set.intersection(*({name for record in history for name in record} for history in histories))
    return sorted((name for name in shared if name.startswith(("train_", "test_"))), key=place)


def table(histories: dict[str, History], metrics: list[str], configs: dict[str, dict[str, Any]]) -> str:
    """Lists per run: epochs, seconds, last and best of each test metric, and the options that differ."""
    tests = [name for name in metrics if name.startswith("test_")] or metrics
    values: dict[str, list[Any]] = {}
    for name, value in itertools.chain(*(config.items() for config in configs.values())):
        values.setdefault(name, []).append(value)
    differing = [n for n, (one, *more) in values.items() if n not in NO_SETTINGS and any(v != one for v in more)]
    rates = [f"{which} {words(name).removesuffix(' in %')}" for name in tests for which in ("last", "best")]
    rows = [["run", "epochs", "seconds", *rates, *map(cli.option, differing)]]
    for run, history in histories.items():
        row = [run, str(len(history)), f"{sum(record.get('seconds') or 0.0 for record in history):.1f}"]
        for name in tests:
            known = [record[name] for record in history if record.get(name) is not None]  # else NaN or infinite
            best = (max if name.endswith("accuracy") else min)(known, default=None)
            shape = ".2%" if name.endswith("accuracy") else ".4g"
            row += ["-" if value is None else f"{value:{shape}}" for value in (history[-1].get(name), best)]
        rows.append([*row, *(str(configs[run].get(name, "-")) for name in differing)])
    return aligned(rows, "l" * len(rows[0]))


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
