"""Training in segments whose learning rate is planned ahead: over a number of steps, or by the clock."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.counts import check_count
from jaxnn.train.checkpoint.options import Position
from jaxnn.train.devices import distributed
from jaxnn.train.loop.computed import Computed
from jaxnn.train.loop.driver import Program
from jaxnn.train.loop.nonfinite import NonFiniteLossError
from jaxnn.train.losses.types import Metrics
from jaxnn.train.run.progress import Progress
from jaxnn.train.run.record import Record
from jaxnn.train.step import compiling
from jaxnn.train.step.hyperparameters import with_hyperparameters
from jaxnn.train.step.state import TrainState


@dataclasses.dataclass
class Budget:
    """The length of a run, in steps, or in seconds from now.

    Args:
        steps: Number of steps; None for a run of `seconds`.
        seconds: Number of seconds, if `steps` is None.
        began: When the run began, by `time.perf_counter`.
        seconds_per_step: The latest time per step, in seconds; None before the first step.

    Raises:
        ValueError: If neither `steps` nor `seconds` is given, or one is out of range.

    Example:
        >>> from jaxnn import train
        >>> train.loop.Budget(steps=10).shares(4, 3).tolist()
        [0.5, 0.6, 0.7]
    """

    steps: int | None = None
    seconds: float = math.inf
    began: float = dataclasses.field(default_factory=time.perf_counter)
    seconds_per_step: float | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_count("steps", self.steps)
        elif not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds: expected a finite positive number without steps, got {self.seconds}")

    @property
    def elapsed(self) -> float:
        """Returns the seconds that the run has taken so far."""
        return time.perf_counter() - self.began

    def resume(self, seconds: float) -> None:
        """Counts the seconds that the run took before it stopped."""
        self.began = time.perf_counter() - seconds

    def shares(self, done: int, segment: int) -> np.ndarray:
        """Plans the fraction of the run that has passed after each of the next steps.

        For a run of `seconds`, the number of remaining steps is estimated from the latest time per step and rounded to
        whole segments.

        Args:
            done: Steps so far.
            segment: Steps to plan.

        Returns:
            `(segment,)`, rising, at most 1.
        """
        ahead = np.arange(1, segment + 1)
        if self.steps is not None:
            return np.minimum((done + ahead) / self.steps, 1)
        now = min(self.elapsed / self.seconds, 1.0)
        if self.seconds_per_step is None:
            return np.full(segment, now)
        left = (1 - now) * self.seconds / self.seconds_per_step
        return 1 - (1 - now) * (1 - ahead / (segment * max(1, round(left / segment))))


def cosine(shares: np.ndarray, highest: float, warmup: float = 0.05) -> np.ndarray:
    r"""Computes the learning rate at fractions of a run: a linear warm-up, then half a cosine down to 0.

    .. math:: \eta(s) = \eta_{\max} \min\left(\frac{s}{w}, \frac{1 + \cos \pi s}{2}\right)

    Args:
        shares: Fractions of the run, `(steps,)`, from 0 to 1.
        highest: The highest learning rate :math:`\eta_{\max}`.
        warmup: The fraction :math:`w` of the run that warms up; 0 for none.

    Returns:
        Rates, float32 `(steps,)`.

    Example:
        >>> import numpy as np
        >>> from jaxnn import train
        >>> train.loop.cosine(np.array([0.01, 0.5, 1.0]), highest=2.0).round(3).tolist()
        [0.4000000059604645, 1.0, 0.0]
    """
    rising = shares / warmup if warmup else 1.0
    factors = np.minimum(rising, (1 + np.cos(np.pi * shares)) / 2)
    return (highest * factors).astype(np.float32)


class Segments(Program):
    """Training in segments of steps within a `Budget`, for `drive`; each segment is one compiled program.

    With a budget of seconds the run takes that long on any machine, and completes its learning-rate schedule. Each
    segment gives a record: `step`, `epochs`, `share` (the fraction of the run that has passed), `train_loss` and
    `seconds`.

    Args:
        step: A step of `make_step`, for states whose optimiser is of `train.optimizer` without a schedule.
        data: Batches that are computed on the device, for example `TBPTT`.
        budget: The length of the run.
        rate: Learning rates for fractions of the run, `(steps,)` -> `(steps,)`, for example `cosine`.
        segment: Steps per compiled program.
        advice: Advice for a loss that is not finite.
        report: `(state) -> {name: value}`, added to records: bits per token of a held-out text, for example.
        reports: Fractions of the run after which `report` is called, ascending to 1.0.

    Attributes:
        budget: The length of the run.
        share: The fraction of the run that has passed.

    Raises:
        ValueError: If `segment` is not a positive integer.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from functools import partial
        >>> from jaxnn import train
        >>> data = train.Generated(lambda key: jax.random.normal(key, (8, 2)), steps=10)
        >>> step = train.make_step(lambda w, x, key: ((x @ w - x[:, 0]) ** 2, {}))
        >>> budget = train.loop.Budget(steps=60)  # or seconds=840, for a run of fourteen minutes
        >>> rate = partial(train.loop.cosine, highest=0.1)
        >>> program = train.loop.Segments(step, data, budget, rate, segment=20)
        >>> state = train.create_state(jnp.zeros(2), train.optimizer("adam"), jax.random.key(0))
        >>> state, history = train.loop.drive(program, state)
        >>> len(history), history[-1]["share"], history[-1]["train_loss"] < history[0]["train_loss"]
        (3, 1.0, True)
    """

    def __init__(
        self,
        step: Callable[..., tuple[TrainState, Metrics]],
        data: Computed,
        budget: Budget,
        rate: Callable[[np.ndarray], np.ndarray],
        *,
        segment: int = 100,
        advice: str = "try a lower learning rate, or clip gradients (train.optimizer(clip_norm=1.0))",
        report: Callable[[TrainState], Mapping[str, Any]] = lambda state: {},
        reports: Sequence[float] = (),
    ) -> None:
        self.share = 0.0
        self.budget, self._data, self._rate, self._advice = budget, data, rate, advice
        self._segment, self._report, self._reports = check_count("segment", segment), report, reports

        @partial(compiling.jit, compiler_options=compiling.options_for(step, None), donate_argnums=0)
        def run(state: TrainState, data: Computed, rates: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
            def body(state: TrainState, rate: jax.Array) -> tuple[TrainState, Any]:
                opt_state = with_hyperparameters(state.opt_state, {"learning_rate": rate})
                state = dataclasses.replace(state, opt_state=opt_state)
                return step(state, data.batch_at(state.key, state.step))

            return jax.lax.scan(body, state, rates)

        self._run = run

    def resume(self, state: TrainState, position: Position, display: Progress) -> None:
        """Continues the schedule where it was."""
        display.say(f"resumed after step {int(state.step):,}")
        self.share = position.history[-1]["share"]
        self.budget.resume(position.seconds)

    def remaining(self, state: TrainState) -> float:
        """Returns 0 when the budget is used."""
        return 1 - self.share

    def names(self, state: TrainState) -> set[str]:
        """Returns the names of the records."""
        return {"step", "epochs", "share", "train_loss", "seconds"}

    def compile(self, state: TrainState) -> tuple[TrainState, str]:
        """Compiles now, so that every segment takes the same time."""
        self._run.lower(state, self._data, jnp.zeros(self._segment)).compile()
        return state, ""

    def run(self, state: TrainState) -> tuple[TrainState, Any]:
        """Trains a segment."""
        shares = distributed.same_array(self.budget.shares(int(state.step), self._segment))  # clocks differ
        result: tuple[TrainState, Any] = self._run(state, self._data, jnp.asarray(self._rate(shares)))
        self.share = float(shares[-1])
        return result

    def record(self, state: TrainState, metrics: Any, seconds: float, position: Position) -> Record:
        """Makes the record; raises `NonFiniteLossError` if a loss is not finite."""
        self.budget.seconds_per_step = seconds / self._segment
        step, losses = int(state.step), metrics["loss"]
        record: Record = {"step": step, "epochs": step / self._data.steps, "share": self.share}
        if not np.isfinite(losses).all():
            raise NonFiniteLossError(
                f"drive: the loss became {losses[~np.isfinite(losses)][0]} before step {step}, and training stopped; "
                f"{self._advice}.",
                epoch=int(record["epochs"]) + 1,
                step=step,
                history=position.history,
            )
        record["train_loss"] = float(losses.mean())
        before = position.history[-1]["share"] if position.history else 0.0
        if any(before < share <= self.share for share in self._reports):
            record |= self._report(state)
        record["seconds"] = position.seconds = self.budget.elapsed
        return record
