"""Pictures of many runs: mean and spread over the epochs, results by hyper-parameter, and calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnn.inspect.calibration import Reliability
from jaxnn.plots.figure import INK, TEST, TRAIN, Path, new_figure, over_epochs, plain, save, words


def spread(
    groups: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], path: Path, metric: str = "test_accuracy"
) -> None:
    """Draws one metric over the epochs: the mean of each setting, and a band from its lowest to its highest run.

    Runs that diverged are left out and counted in the legend.

    Args:
        groups: The histories of each setting's runs, by the setting's name.
        path: The PNG to write.
        metric: Name of a number in the records; accuracies are shown in percent.

    Raises:
        ValueError: If there is no history.
        ImportError: If matplotlib is absent.

    Example:
        >>> from jaxnn import plots
        >>> runs = [[{"epoch": 1, "test_loss": 2.0}, {"epoch": 2, "test_loss": last}] for last in (1.0, 1.2)]
        >>> plots.spread({"learning rate 0.1": runs}, "spread.png", metric="test_loss")
    """
    if not groups or not any(history for runs in groups.values() for history in runs):
        raise ValueError("groups: expected at least one history, got none")
    percent = metric.endswith("accuracy")
    scale = 100 if percent else 1
    longest = max(len(history) for runs in groups.values() for history in runs)
    figure = new_figure(6.6, 4.2)
    axes = figure.add_subplot()
    for number, (name, runs) in enumerate(groups.items()):
        whole = [h for h in runs if len(h) == longest and np.isfinite([r.get(metric, np.nan) for r in h]).all()]
        lost = f", {len(runs) - len(whole)} of {len(runs)} diverged" if len(whole) < len(runs) else ""
        if not whole:
            axes.plot([], [], color=f"C{number}", label=f"{name}{lost}")
            continue
        epochs = [record["epoch"] for record in whole[0]]
        values = scale * np.array([[record[metric] for record in history] for history in whole])
        mean, deviation = values.mean(0), values[:, -1].std(ddof=1) if len(values) > 1 else 0.0
        unit = " %" if percent else ""
        last = f"{mean[-1]:.2f} ± {deviation:.2f}{unit}" if percent else f"{mean[-1]:.3g} ± {deviation:.2g}"
        low, high, faint = values.min(0), values.max(0), {"color": f"C{number}", "alpha": 0.18}
        axes.fill_between(epochs, low, high, linewidth=0, **faint)
        if len(epochs) == 1:  # a band without width is invisible
            axes.vlines(epochs, low, high, linewidth=8, **faint)
        axes.plot(
            epochs,
            mean,
            ".-" if len(epochs) < 50 else "-",
            color=f"C{number}",
            linewidth=1.8,
            label=f"{name}: {last}{lost}",
        )
    axes.set_ylabel(words(metric))
    over_epochs(axes)
    said = "lines: means; bands: lowest to highest run\nlast epoch: mean ± standard deviation"
    axes.legend(edgecolor="none", title=said, title_fontsize=8, fontsize=9, alignment="left")
    save(figure, path)


def by_setting(results: Mapping[float, Sequence[float]], path: Path, *, x: str, y: str, log: bool = True) -> None:
    """Draws results by the value of a hyper-parameter: each run as a dot, with mean and standard deviation.

    Args:
        results: Results of all runs by the value of the hyper-parameter; a result that is not finite (the run diverged)
            is drawn as a cross at the bottom.
        path: The PNG to write.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        log: Whether the hyper-parameter's axis is logarithmic.

    Raises:
        ValueError: If there is nothing to draw.
        ImportError: If matplotlib is absent.

    Example:
        >>> from jaxnn import plots
        >>> plots.by_setting(
        ...     {1e-3: [0.9, 0.92], 1e-2: [0.95, float("nan")]}, "rates.png", x="learning rate", y="accuracy")
        >>> plots.by_setting({0.0: [0.9], 0.5: [0.93]}, "dropout.png", x="dropout", y="accuracy", log=False)
    """
    if not any(len(values) for values in results.values()):
        raise ValueError("results: expected at least one, got none")
    figure = new_figure(5.6, 4.0)
    axes = figure.add_subplot()
    if log:
        axes.set_xscale("log")
    settings: list[float] = []
    means, deviations, lost = [], [], []
    for setting, each in sorted(results.items()):
        values = np.asarray(each, float)
        finite = values[np.isfinite(values)]
        dots = {"color": TRAIN, "alpha": 0.5, "markersize": 8, "zorder": 1, "linestyle": "none"}
        axes.plot(np.full(len(finite), setting), finite, marker=".", label="_" if settings else "a run", **dots)
        lost += [setting] * (len(values) > len(finite))
        if len(finite):
            settings.append(setting)
            means.append(finite.mean())
            deviations.append(finite.std(ddof=1) if len(finite) > 1 else 0.0)
    line = {"fmt": "o-", "color": INK, "capsize": 4, "linewidth": 1.4, "markersize": 5, "zorder": 2}
    axes.errorbar(settings, means, deviations, label="mean ± standard deviation", **line)
    if lost:
        low = axes.get_ylim()[0]
        axes.plot(lost, [low] * len(lost), "x", color=TEST, markersize=9, clip_on=False, label="some diverged")
    axes.legend(edgecolor="none", fontsize=9)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xticks(sorted(results), [f"{setting:g}" for setting in sorted(results)])
    axes.minorticks_off()
    plain(axes)
    save(figure, path)


def reliability(groups: Mapping[str, Reliability], path: Path) -> None:
    """Draws accuracy against confidence, one line per classifier; calibrated classifiers follow the diagonal.

    Args:
        groups: Results of `inspect.reliability` by name.
        path: The PNG to write.

    Raises:
        ValueError: If there is nothing to draw.
        ImportError: If matplotlib is absent.

    Example:
        >>> from jaxnn import inspect, train
        >>> from jaxnn import plots
        >>> plots.reliability({"net": inspect.reliability([[0.9, 0.1], [0.2, 0.8]], [0, 1])}, "reliability.png")
    """
    if not groups:
        raise ValueError("groups: expected at least one classifier, got none")
    figure = new_figure(5.2, 5.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1, label="calibrated")
    bins = max(len(group.size) for group in groups.values())
    width = 0.9 / bins / len(groups)
    for number, (name, group) in enumerate(groups.items()):
        filled = group.size > 0
        label = f"{name}: calibration error {100 * group.error:.1f} %"
        upper.plot(
            group.confidence[filled], group.accuracy[filled], "o-", color=f"C{number}", markersize=4, label=label
        )
        centres = (np.arange(len(group.size)) + 0.5) / len(group.size)
        offset = (number - (len(groups) - 1) / 2) * width
        lower.bar(centres + offset, group.size / group.size.sum(), width, color=f"C{number}")
    upper.set_ylabel("share that is right")
    upper.set_ylim(-0.03, 1.03)
    upper.legend(edgecolor="none", fontsize=9)
    lower.set_ylabel("share of all")
    lower.set_yscale("log")
    lower.minorticks_off()
    lower.yaxis.set_major_formatter("{x:g}")
    lower.set_xlabel("probability of the predicted class")
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        plain(axes)
    save(figure, path)
