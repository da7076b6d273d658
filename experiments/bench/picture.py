"""One picture of all results: a row for each case, a marker for each side, a colour for each library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.bench.case import OURS
from experiments.bench.report import Row
from experiments.bench.timing import ratio
from jaxnn.plots.figure import new_figure, save

MARKERS = "oDs^vPX<>*"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws the ratios of times to a file, with a panel for each number of threads; nothing without results."""
    rows = [row for row in rows if row.result.timings]
    panels = list(dict.fromkeys(row.threads for row in rows))
    if not panels:
        return
    titles = list(dict.fromkeys(f"{row.workload}: {row.result.case.title}" for row in rows))
    names = list(dict.fromkeys(name for row in rows for name in row.result.timings))
    libraries: dict[str, list[str]] = {}
    for name in names:
        libraries.setdefault(name.split(",")[0], []).append(name)
    looks: dict[str, Any] = {
        name: {"color": f"C{i % 10}", "marker": MARKERS[j % len(MARKERS)]}
        for i, variants in enumerate(libraries.values())
        for j, name in enumerate(variants)
    }
    figure = new_figure(4.0 + 4.0 * len(panels), 1.8 + 0.1 * len(names) + 0.25 * len(titles))
    axes: Any = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, threads in zip(axes, panels, strict=True):
        for row in (row for row in rows if row.threads == threads):
            timings = row.result.timings
            reference = next(iter(timings.values()))
            y = titles.index(f"{row.workload}: {row.result.case.title}")
            for name, timing in timings.items():
                axis.plot(ratio(timing, reference), y, **looks[name], markersize=5, zorder=2 + name.startswith(OURS))
        axis.axvline(1.0, color="#999999", linewidth=0.8, zorder=0)
        axis.set_xscale("log")
        axis.set_title(f"{threads} thread{'s' if threads > 1 else ''}", fontsize=9)
        axis.set_xlabel("time / time of the case's first side; left is faster", fontsize=8)
        axis.grid(axis="y", linewidth=0.3)
        axis.tick_params(labelsize=7)
    axes[0].set_yticks(range(len(titles)), titles, fontsize=7)
    axes[0].invert_yaxis()
    for name in (name for variants in libraries.values() for name in variants):
        axes[0].plot([], [], **looks[name], linestyle="none", label=name)
    figure.legend(loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    save(figure, path)
