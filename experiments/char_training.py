"""The training of a character language model: how long it is, the learning rate along it, its program."""

import dataclasses
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.char_report import Record, evaluated, leave, opening, show, told_if_full, write
from experiments.cli.checks import MOST, expect
from experiments.data.text import Text
from jaxnn import train
from jaxnn.models import LanguageModel
from jaxnn.train.checkpoint import Position
from jaxnn.train.run.progress import Progress

if TYPE_CHECKING:
    from experiments.char_lm import Options

REPORTS = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
"""After which shares of the run the held-out text is looked at and a sample is written."""


@dataclasses.dataclass
class Budget:
    """Steps, or seconds from now on; a run that goes on later has used some of them.

    Attributes:
        steps: How many steps the run has; None where the clock decides.
        seconds: How long it may take.
        began: When it began, as `time.perf_counter` tells.
        seconds_per_step: What a step took lately; None before the first.
    """

    steps: int | None
    seconds: float
    began: float = dataclasses.field(default_factory=time.perf_counter)
    seconds_per_step: float | None = None

    @classmethod
    def of(cls, *, epochs: float | None, minutes: float | None, steps_per_epoch: int, usual_minutes: float) -> "Budget":
        """The budget of `--epochs` or `--minutes`; without either, the usual minutes."""
        expect("minutes", minutes, epochs is None or minutes is None, "nothing beside --epochs; give one of them")
        if epochs is not None:
            most = MOST // steps_per_epoch
            expect("epochs", epochs, epochs <= most, f"at most {most}, of {steps_per_epoch} steps each")
        steps = None if epochs is None else max(1, round(epochs * steps_per_epoch))
        return cls(steps, 60 * (usual_minutes if minutes is None else minutes))

    def resume(self, seconds: float) -> None:
        """Counts the seconds that the run took before it stopped."""
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
            done: Steps so far.
            segment: Steps to plan.

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
        highest: The learning rate that the cosine comes down from.
        warmup: The share of the run that goes up.

    Returns:
        Rates, float32 `(steps,)`.
    """
    factors = np.minimum(shares / warmup, (1 + np.cos(np.pi * shares)) / 2)
    return (highest * factors).astype(np.float32)


class Segments(train.loop.Program):
    """The training of a language model: segments of steps, whose learning rates are planned by the budget.

    Attributes:
        held_out: The held-out text.
        before: The token before it.
    """

    def __init__(
        self, options: "Options", text: Text, data: train.loop.TBPTT, budget: Budget, folder: train.RunFolder
    ) -> None:
        self._options, self._characters, self._data = options, text.characters, data
        self._budget, self._folder = budget, folder
        self.held_out, self.before = jnp.asarray(text.held_out), jnp.asarray(text.train[-1])
        self._share, self._shares = 0.0, np.zeros(options.segment)
        step = train.make_step(train.loop.next_token_loss)

        @partial(train.jit, donate_argnums=0)
        def segment(
            state: train.TrainState, data: train.loop.TBPTT, rates: jax.Array
        ) -> tuple[train.TrainState, dict[str, jax.Array]]:
            def body(state: train.TrainState, rate: jax.Array) -> tuple[train.TrainState, Any]:
                opt_state = train.step.with_hyperparameters(state.opt_state, {"learning_rate": rate})
                state = dataclasses.replace(state, opt_state=opt_state)
                return step(state, data.batch_at(state.key, state.step))

            return jax.lax.scan(body, state, rates)

        self._segment = segment

    def resume(self, state: train.TrainState, position: Position, display: Progress) -> None:
        """Continues the schedule where it was."""
        print(f"resumed after step {int(state.step):,}", flush=True)
        self._share = position.history[-1]["share"]
        self._budget.resume(position.seconds)

    def remaining(self, state: train.TrainState) -> float:
        """Returns 0 when the budget is used."""
        return 1 - self._share

    def compile(self, state: train.TrainState) -> tuple[train.TrainState, str]:
        """Compiles now, so that every segment takes the same time."""
        self._segment.lower(state, self._data, jnp.zeros(self._options.segment)).compile()
        return state, ""

    def run(self, state: train.TrainState) -> tuple[train.TrainState, Any]:
        """Trains a segment."""
        self._shares = self._budget.shares(int(state.step), self._options.segment)
        rates = cosine(self._shares, self._options.learning_rate)
        result: tuple[train.TrainState, Any] = self._segment(state, self._data, jnp.asarray(rates))
        return result

    def record(self, state: train.TrainState, metrics: Any, seconds: float, position: Position) -> Record:
        """Makes the record; at some shares of the run with a sample, and with what the held-out text says."""
        self._budget.seconds_per_step = seconds / self._options.segment
        before, self._share = self._share, float(self._shares[-1])
        step, losses = int(state.step), metrics["loss"]
        record: Record = {"step": step, "epochs": step / self._data.steps, "share": self._share}
        record["train_bits"] = float(losses.mean() / math.log(2))
        stop_if_lost(losses, record, position.history)
        if any(before < report <= self._share for report in REPORTS):
            model = evaluated(state)
            record["held_out_bits"] = float(bits_per_character(model, self.held_out, self.before, pieces=16))
            record["sample"] = write(model, self._characters, opening(self._characters), self._options)
        record["seconds"] = position.seconds = self._budget.elapsed
        return record

    def check(self, state: train.TrainState, history: list[Record]) -> None:
        """Shows and writes a report."""
        if "sample" in history[-1]:
            show(history[-1])
            with told_if_full(self._folder):
                leave(self._folder, evaluated(state), self._characters, self._options.sizes, history)


def stop_if_lost(losses: np.ndarray, record: Record, records: list[Record]) -> None:
    """Raises where a loss is not finite: from there on there is nothing left to train."""
    if not np.isfinite(losses).all():
        raise train.loop.NonFiniteLossError(
            f"char_lm: the loss became {losses[~np.isfinite(losses)][0]} before step {record['step']}, and training "
            "stopped; try a lower --learning-rate or --clip.",
            epoch=int(record["epochs"]) + 1,
            step=int(record["step"]),
            history=records,
        )


@partial(jax.jit, static_argnames=("pieces", "chunk"))
def bits_per_character(
    model: LanguageModel, text: jax.Array, before: jax.Array, *, pieces: int = 1, chunk: int = 256
) -> jax.Array:
    r"""The mean over every character of a text of how surprising it is, in bits.

    .. math:: -\frac{1}{T} \sum_{t=1}^{T} \log_2 p(x_t \mid x_1, \dots, x_{t-1})

    Args:
        model: The language model, in evaluation mode.
        text: Tokens, int32 `(characters,)`; each is predicted, and counts once.
        before: The character before the first.
        pieces: 1 reads the text in one go, the state carried from its first character to its last: that is the number
            to report. More read as many pieces side by side, which is faster and a little pessimistic: each starts
            unread.
        chunk: Characters of each piece read by one call; the result is the same for each choice.
    """
    characters = text.shape[0]
    calls = -(-characters // (pieces * chunk))
    filling = pieces * calls * chunk - characters
    inputs = jnp.concatenate([before[None].astype(text.dtype), text[:-1]])
    # (calls, pieces, chunk), so that a scan goes through all pieces together.
    inputs, targets, counts = (
        jnp.pad(a, (0, filling)).reshape(pieces, calls, chunk).swapaxes(0, 1)
        for a in (inputs, text, jnp.ones(characters, bool))
    )

    def body(state: Any, call: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        inputs, targets, counts = call
        logits, state = model(inputs, state)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets)
        return state, jnp.sum(jnp.where(counts, losses, 0))

    _, sums = jax.lax.scan(body, model.zero_state((pieces,)), (inputs, targets, counts))
    return jnp.sum(sums) / (characters * np.log(2))
