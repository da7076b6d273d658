"""Progress of a download: a bar on a terminal, a line for every tenth elsewhere."""

import sys
from typing import Any

from jaxnn.progress import Display

_STEP_WITHOUT_TOTAL = 16 << 20


class DownloadProgress(Display):
    """Shows on stderr how many bytes of a file have arrived.

    Args:
        label: The text before the numbers.
        enabled: False shows nothing.
    """

    def __init__(self, label: str, enabled: bool = True):
        super().__init__(sys.stderr, _columns, enabled=enabled, description=label)
        self._label, self._shown = label, -1

    def __call__(self, done: int, total: int | None) -> None:
        """Shows `done` of `total` bytes; `total` is None if it is unknown."""
        self.update(completed=done, total=total)
        step = done * 10 // total if total else done // _STEP_WITHOUT_TOTAL
        if self.has_bar or step == self._shown:
            return
        self._shown = step
        share = f"{done / total:4.0%} of {total / 2**20:,.1f} MiB" if total else f"{done / 2**20:,.1f} MiB"
        self.say(f"{self._label}: {share}")


def _columns(rich: Any) -> list[Any]:
    return [
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn(binary_units=True),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    ]
