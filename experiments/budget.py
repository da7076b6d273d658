"""How long a run is, in steps or in minutes, and the learning rate along it."""

import dataclasses
import math
import time

import numpy as np

from experiments.cli.checks import MOST, expect


@dataclasses.dataclass
class Budget:
    """Steps, or seconds from now on; a run that goes on later has used some of them.

    Attributes:
      steps: how many steps the run has; None where the clock decides.
      seconds: how long it may take.
      began: when it began, as `time.perf_counter` tells.
      seconds_per_step: what a step took lately; None before the first.
    """

    steps: int | None
    seconds: float
    began: float = dataclasses.field(default_factory=time.perf_counter)
    seconds_per_step: float | None = None

    @classmethod
    def of(cls, *, epochs: float | None, minutes: float | None, steps_per_epoch: int, usual_minutes: float) -> "Budget":
        """What `--epochs` and `--minutes` ask for; without either, the usual minutes."""
        if epochs is not None and minutes is not None:
            raise ValueError("--epochs and --minutes both say how long to train; give one of them")
        for name, value in (("epochs", epochs), ("minutes", minutes)):
            expect(name, value, value is None or 0 < value < math.inf, "a finite positive number")
        if epochs is not None:
            most = MOST // steps_per_epoch
            expect("epochs", epochs, epochs <= most, f"at most {most}, of {steps_per_epoch} steps each")
        steps = None if epochs is None else max(1, round(epochs * steps_per_epoch))
        return cls(steps, 60 * (usual_minutes if minutes is None else minutes))

    def resume(self, seconds: float) -> None:
        """Goes on with a run that took so many seconds before it stopped."""
        self.began = time.perf_counter() - seconds

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken so far."""
        return time.perf_counter() - self.began

    def shares(self, done: int, segment: int) -> np.ndarray:
        """Which share of the run is over after each of the next steps.

        By the clock, the steps that are left are foretold from what the last ones took, in whole segments, so that the
        run ends with one.

        Args:
          done: steps so far.
          segment: steps to plan.

        Returns:
          `(segment,)`, rising, at most 1.
        """
        ahead = np.arange(1, segment + 1)
        if self.steps is not None:
            return np.minimum((done + ahead) / self.steps, 1)
        now = min(self.elapsed / self.seconds, 1)
        if self.seconds_per_step is None:
            return np.full(segment, now)
        left = (1 - now) * self.seconds / self.seconds_per_step
        return 1 - (1 - now) * (1 - ahead / (segment * max(1, round(left / segment))))


def cosine(shares: np.ndarray, highest: float, warmup: float = 0.05) -> np.ndarray:
    """The learning rate at each share of a run: up over the `warmup`, and down to 0 as half a cosine.

    Args:
      shares: `(steps,)`, from 0 to 1.
      highest: the learning rate that the cosine comes down from.
      warmup: the share of the run that goes up.

    Returns:
      float32 `(steps,)`.
    """
    factors = np.minimum(shares / warmup, (1 + np.cos(np.pi * shares)) / 2)
    return (highest * factors).astype(np.float32)
