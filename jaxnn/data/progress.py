"""How far a download is: a bar where a person watches, a line for every tenth where a log file does."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

Report: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes that there will be (None: nobody knows)."""

_STEP_WITHOUT_TOTAL = 16 << 20


@contextlib.contextmanager
def progress_bar(label: str, enabled: bool = True) -> Iterator[Report]:
    """Shows on stderr what it is told, during the `with`.

    Args:
        label: what stands before the numbers.
        enabled: False shows nothing.
    """
    if not enabled:
        yield lambda done, total: None
        return
    try:
        from rich import progress
        from rich.console import Console
    except ModuleNotFoundError:  # rich comes with the `experiments` extra
        yield _lines(label)
        return
    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield _lines(label)
        return
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(label: str) -> Report:
    shown = -1

    def report(done: int, total: int | None) -> None:
        nonlocal shown
        step = done * 10 // total if total else done // _STEP_WITHOUT_TOTAL
        if step == shown:
            return
        shown = step
        share = f"{done / total:4.0%} of {total / 2**20:,.1f} MiB" if total else f"{done / 2**20:,.1f} MiB"
        print(f"{label}: {share}", file=sys.stderr, flush=True)

    return report
