"""Options of checkpoints: where, how often, how many, and the data beside the state."""

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from jaxnn.counts import check_count

Mode = Literal["auto", "min", "max"]
"""Which value of a metric is better: `"auto"` is `"max"` where its name ends with `accuracy`, otherwise `"min"`."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, or of another model, configuration or data, or in use by another process."""


class CheckpointWarning(RuntimeWarning):
    """A checkpoint could not be written or read, and training continues without it."""


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Options for the checkpoints of `fit`, or of your own loop with a `train.checkpoint.Saver`.

    A checkpoint holds everything that determines the run: parameters, optimiser state, variables, random key, step (and
    so the position in the data), the history so far and `config`. Orbax writes it under a temporary name while training
    continues, and renames it when it is complete.

    Attributes:
        folder: The folder of the checkpoints; created if it does not exist.
        resume: Whether to resume from the newest complete checkpoint in `folder`; without one, training starts from the
            beginning. Resuming a run whose checkpoints are missing or all damaged is an error, because it would be
            overwritten. Without `resume`, a folder that holds checkpoints is an error.
        every: Epochs between checkpoints; None saves by `seconds` alone. The end of the run is always saved.
        seconds: Seconds after the last checkpoint at which `fit` saves another inside an epoch, if it runs the epoch in
            chunks; None saves none inside epochs. `Saver.due` is true from then on.
        keep: Number of newest checkpoints to keep.
        best: A metric of the history; the checkpoint with its best value is kept too, and
            `train.checkpoint.restore(folder, state, best=True)` reads it. A run resumed with another metric compares
            only later checkpoints.
        best_mode: `"min"` if lower is better, `"max"` if higher is better; `"auto"` means higher for names that end
            with `accuracy`, otherwise lower.
        config: What must be the same when the run is resumed: names, and values that JSON can hold.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> data = jnp.eye(2), jnp.ones(2)
        >>> def run(epochs, resume):
        ...     state = train.create_state(jnp.zeros(2), optax.adam(0.1), jax.random.key(0))
        ...     saved = train.Checkpoints("runs/toy/checkpoints", resume=resume)
        ...     return train.fit(
        ...         state, data, loss_fn, epochs=epochs, batch_size=1, progress=False, checkpoints=saved
        ...     )
        >>> state, history = run(2, resume=False)
        >>> state, history = run(3, resume=True)  # trains one epoch more
        >>> [record["epoch"] for record in history]
        [1, 2, 3]
    """

    folder: str | os.PathLike[str]
    resume: bool = False
    every: int | None = 1
    seconds: float | None = 60.0
    keep: int = 2
    best: str | None = None
    best_mode: Mode = "auto"
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_count("keep", self.keep)
        if self.best is not None and not isinstance(self.best, str):
            raise ValueError(
                f"best: expected the name of a metric, or None, got {self.best!r}; for example 'test_loss'."
            )
        sign("best_mode", self.best_mode, "")
        if self.every is not None:
            check_count("every", self.every)
        if self.seconds is not None and not self.seconds >= 0:
            raise ValueError(f"seconds: expected a time that is not negative, or None, got {self.seconds}")

    def check_names(self, names: Collection[str]) -> None:
        """Checks that `best` is one of the names of a record.

        Args:
            names: The names.

        Raises:
            ValueError: If it is not.
        """
        if self.best is not None:
            check_metric("best", self.best, names)


def check_metric(argument: str, metric: str, names: Collection[str]) -> None:
    """Raises if records have no metric of the name that `argument` gives."""
    if metric not in names:
        raise ValueError(
            f"{argument}: expected one of the record, {', '.join(sorted(names))}, got {metric!r}; test metrics need "
            "test_data."
        )


def criterion(options: Checkpoints) -> str | None:
    """The criterion of the best checkpoint, for example "lowest test_loss"; None where none is kept."""
    if options.best is None:
        return None
    return f"{'lowest' if sign('best_mode', options.best_mode, options.best) > 0 else 'highest'} {options.best}"


def sign(name: str, mode: Mode, metric: str) -> float:
    """Returns 1 if lower values of a metric are better, -1 if higher ones are; `name` is the argument of the mode."""
    if mode not in get_args(Mode):
        raise ValueError(f"{name}: expected 'auto', 'min' or 'max', got {mode!r}")
    return -1.0 if mode == "max" or (mode == "auto" and metric.endswith("accuracy")) else 1.0


@dataclasses.dataclass
class Position:
    """The position of a run, besides its state: what is needed to continue the history, as JSON values.

    Attributes:
        history: The records so far; of `fit`, those of whole epochs.
        sums: Sums of each metric, and of `examples`, over the examples of the current epoch so far.
        seconds: Training time of the current epoch so far, in seconds.
    """

    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


class MetricsFolder(Protocol):
    """A folder whose `metrics.jsonl` must agree with the checkpoints, for example a `train.RunFolder`."""

    def __truediv__(self, name: str) -> Path:
        """Returns the path of a file in the folder."""

    def holds_metrics(self, after: int = 0) -> bool:
        """Returns whether there are metrics of epochs later than `after`."""

    def rewind(self, history: Sequence[Mapping[str, Any]], *, after: int = 0) -> None:
        """Makes the metrics of epochs later than `after` those of `history`."""
