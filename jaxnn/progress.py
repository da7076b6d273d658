"""Progress on a stream: lines, and on a terminal a bar below them."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self, TextIO


class Display:
    """Shows lines on a stream, and a bar below them where the stream is a terminal and rich is installed.

    A context manager, which draws the bar. Characters that the stream cannot encode are escaped. A stream that cannot
    be written (a full disk, a closed pipe) is one warning, and the work continues.

    Args:
        stream: Where to write, `sys.stdout` for instance.
        columns: Given the module `rich.progress`, returns what the bar shows.
        enabled: False shows nothing.
        **task: The first values of the bar, as for `update`.

    Attributes:
        has_bar: Whether there is a bar.
        enabled: As given.

    Example:
        >>> import sys
        >>> from jaxnn.progress import Display
        >>> with Display(sys.stdout, lambda rich: [rich.BarColumn()], total=2) as display:
        ...     display.update(completed=1)
        ...     display.say("half of it is done")
        half of it is done
    """

    def __init__(
        self,
        stream: TextIO,
        columns: Callable[[Any], Sequence[Any]],
        *,
        enabled: bool = True,
        total: float | None = None,
        **task: Any,
    ):
        self._stream, self._silent, self._bar = stream, not enabled, None
        self._task: Any = None
        if enabled and stream.isatty():
            with contextlib.suppress(ImportError):  # rich comes with the `experiments` extra
                from rich import console, progress

                self._bar = progress.Progress(*columns(progress), console=console.Console(file=stream))
                self._task = self._bar.add_task(task.pop("description", ""), total=total, **task)
        self.has_bar, self.enabled = self._bar is not None, enabled

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Shows a line, above the bar if there is one."""
        if self._silent:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            if self._bar is not None:
                self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
            else:
                print(text, file=self._stream, flush=True)
        except OSError as error:
            self._silent = True
            warnings.warn(
                f"progress: {getattr(self._stream, 'name', 'the output')} cannot be written ({error.strerror}); "
                "the work continues without it",
                RuntimeWarning,
                stacklevel=3,
            )

    def update(self, **values: Any) -> None:
        """Changes what the bar shows: `completed`, `total`, `description` and the fields of its columns."""
        if self._bar is not None:
            self._bar.update(self._task, **values)
