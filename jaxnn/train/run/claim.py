"""One training per run folder."""

from contextlib import ExitStack

from jaxnn.files import locked
from jaxnn.train.devices import distributed
from jaxnn.train.run.folder import RunFolder


def claim(run: RunFolder | None, after: int, stack: ExitStack, *, resumes: bool) -> None:
    """Locks the metrics of a run folder until the stack is closed, so that lines of two trainings do not mix.

    Args:
        run: The run folder; None locks nothing. All processes of a job call this.
        after: The run trains the epochs after this one.
        stack: Holds the lock.
        resumes: Whether checkpoints decide which lines stay. If not, the folder must hold none of these epochs.

    Raises:
        ValueError: In every process, if another training writes to the folder of one, if it holds such lines, or if
            it cannot be locked or read.
    """
    shared, trouble = "", ""
    if run is not None:
        try:
            stack.enter_context(locked(run / ".lock"))
            epochs = [] if resumes else [record.get("epoch") for record in run.metrics()]
            if any(isinstance(epoch, int | float) and epoch > after for epoch in epochs):
                shared = f"metrics.jsonl in {run.path} holds epochs after {after} already"
        except BlockingIOError:
            shared = f"another training writes to {run.path}"
        except OSError as error:
            trouble = f"run: expected a folder that can be written, got {run.path} ({error.strerror}); choose another."
        except ValueError as error:
            trouble = str(error)
    if shared:
        trouble = (
            f"run: expected a folder of this training alone, got one that it shares ({shared}); give each its own."
        )
    if trouble := distributed.told(trouble):
        raise ValueError(trouble)
