"""Lays runs over one another: loss and accuracy of each over its epochs as one picture, and a table.

    python -m experiments.compare runs/lenet5 runs/lenet5-2
    python -m experiments.compare runs/* --out lenets.png

The table has each run's last and best metrics, its seconds of training, and the options in which the runs differ.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.command import run
from jaxnn import train
from jaxnn.train.plots.figure import new_figure, save

History = Sequence[Mapping[str, Any]]
NO_SETTINGS = ("run", "resume")
"""Options that say where a run is, not what it is."""


@dataclasses.dataclass
class Options:
    """What to compare."""

    runs: tuple[Path, ...]
    """The run folders."""
    out: Path = Path("compare.png")
    """The picture; a number is added where it exists, nothing is overwritten."""


def main(options: Options) -> None:
    """Draws the picture and prints the table."""
    if not options.runs:
        raise ValueError("there is nothing to compare: name at least one run folder")
    if options.out.suffix != ".png":
        raise ValueError(f"--out: the picture is a PNG, so its name must end with .png, not {options.out}")
    if not options.out.parent.is_dir():
        raise ValueError(f"--out: there is no folder {options.out.parent}")
    runs = dict.fromkeys(options.runs)  # one that is named twice is shown once
    histories = {path.as_posix(): history_of(path) for path in runs}
    metrics = common(histories)
    configs = {path.as_posix(): config_of(path) for path in runs}
    print(table(histories, metrics, configs))
    picture = unused(options.out)
    draw(histories, metrics, picture)
    print(f"\nthe curves are in {picture}")


def history_of(path: Path) -> list[dict[str, Any]]:
    """The records of a run, one an epoch; raises where there are none."""
    history = train.RunFolder(path).metrics()
    if not history:
        raise ValueError(f"{path} is no run folder with metrics: it has no metrics.jsonl, or an empty one")
    if any("epoch" not in record for record in history):
        raise ValueError(f"{path}: its metrics.jsonl has records without an epoch, which cannot be drawn over epochs")
    return history


def config_of(path: Path) -> dict[str, Any]:
    """The options of a run, none where it was started without."""
    file = path / "config.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def common(histories: Mapping[str, History]) -> list[str]:
    """The metrics that all runs have, `train_loss` for instance: losses first, training before test."""
    sets = [
        {name for r in history for name in r if name.startswith(("train_", "test_"))} for history in histories.values()
    ]
    shared = set.intersection(*sets)
    if not shared:
        has = "; ".join(
            f"{run}: {', '.join(sorted(names)) or 'none'}" for run, names in zip(histories, sets, strict=True)
        )
        raise ValueError(f"these runs have no metric in common ({has})")
    return sorted(shared, key=lambda name: (_bare(name) != "loss", _bare(name), name.startswith("test_")))


def table(histories: Mapping[str, History], metrics: Sequence[str], configs: Mapping[str, Mapping[str, Any]]) -> str:
    """A line a run: epochs, seconds, last and best of each test metric, and options that are not the same in all."""
    tests = [name for name in metrics if name.startswith("test_")] or metrics
    options = differing(list(configs.values()))
    rows = [
        ["run", "epochs", "seconds", *(f"{which} {name}" for name in tests for which in ("last", "best")), *options]
    ]
    for label, history in histories.items():
        seconds = sum(record.get("seconds") or 0.0 for record in history)
        row = [label, str(len(history)), f"{seconds:.1f}"]
        for name in tests:
            values = [record[name] for record in history if record.get(name) is not None]
            best = max if name.endswith("accuracy") else min
            row += [shown(name, history[-1].get(name)), shown(name, best(values, default=None))]
        rows.append([*row, *(str(configs[label].get(option, "-")) for option in options)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The options whose values are not the same in all runs."""
    names = dict.fromkeys(name for config in configs for name in config if name not in NO_SETTINGS)
    return [name for name in names if any(_value(config, name) != _value(configs[0], name) for config in configs)]


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


def draw(histories: Mapping[str, History], metrics: Sequence[str], path: Path) -> None:
    """One plot a metric, one colour a run; training is dashed, test solid."""
    names = list(dict.fromkeys(map(_bare, metrics)))
    figure = new_figure(5.6 * len(names), 4.2)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        percent = name.endswith("accuracy")
        for number, (label, history) in enumerate(histories.items()):
            for part, style in (("train", "--"), ("test", "-")):
                metric = f"{part}_{name}"
                points = [(r["epoch"], r[metric]) for r in history if metric in metrics and r.get(metric) is not None]
                if points:
                    epochs, values = zip(
                        *((epoch, value * (100 if percent else 1)) for epoch, value in points), strict=True
                    )
                    mark = "." if len(points) < 50 else ""
                    axes.plot(epochs, values, style, marker=mark, color=f"C{number % 10}", label=f"{label}, {part}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{name} in %" if percent else name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize="small")
    save(figure, path)


def _bare(metric: str) -> str:
    return metric.removeprefix("train_").removeprefix("test_")


def _value(config: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    """An option's value, told apart from none."""
    return name in config, config.get(name)


if __name__ == "__main__":
    run(main, Options, __doc__)
