"""The vanishing gradient made visible: what an RNN, a GRU and an LSTM remember over growing delays.

    python -m experiments.memory
    python -m experiments.memory --delays 20 50 100 200 --steps 2000

Two tasks that nothing but memory solves. *Adding*: random numbers, two of them marked; say their sum at the end.
*Copying*: a few symbols, a long silence; say the symbols again. Each network is trained on each delay; memory.png shows
how the gradient fades on its way back through time, before and after training, and what was learned. The RNN's
recurrent matrix starts orthogonal, which keeps its gradient alive at first; once its units saturate, it vanishes.

References:
  Hochreiter, Schmidhuber: Long short-term memory, 1997 (both tasks). Arjovsky, Shah, Bengio: Unitary evolution
  recurrent neural networks, 2016 (in this form).
"""

import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.classify import check_positive
from experiments.command import run
from jaxnn import train
from jaxnn.modules import GRU, LSTM, RNN, Dense
from jaxnn.train.plots.figure import new_figure, save
from jaxnn.train.runfolder import replacing

CELLS = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}
COLOURS = {"RNN": "#e8590c", "GRU": "#2f9e44", "LSTM": "#1f77b4"}
ALPHABET, SYMBOLS = 8, 3
"""Copying: how many different symbols there are, and how many are to be kept."""
GUESS = {"adding": 1 / 6, "copying": 1 / ALPHABET}
"""What needs no memory: the squared error of always saying 1, and the share of symbols right by chance."""


@dataclasses.dataclass
class Options:
    """What to train."""

    delays: tuple[int, ...] = (10, 30, 80)
    """Steps over which something has to be remembered; each network is trained on each."""
    steps: int = 600
    """Training steps of each network; examples are new in each."""
    batch_size: int = 32
    """Sequences a step."""
    hidden: int = 48
    """Hidden units."""
    learning_rate: float = 5e-3
    """Of Adam, the highest: it warms up, then falls as half a cosine."""
    clip: float = 1.0
    """The longest gradient; longer ones are scaled down."""
    forget_bias: float = 3.0
    """What the LSTM's forget gate starts with: more remembers longer from the start."""
    seed: int = 0
    """Everything random follows from it."""
    run: Path = Path("runs/memory")
    """The run folder; a number is added where it exists, nothing is overwritten."""


class Batch(NamedTuple):
    """Sequences and what to say at their end.

    Attributes:
      inputs: `(batch, time, features)`.
      targets: `(batch, answers)`, for the last `answers` steps.
    """

    inputs: jax.Array
    targets: jax.Array


def adding(key: jax.Array, batch: int, delay: int) -> Batch:
    """`delay` numbers, uniform in [0, 1]; one of the first tenth and one of the second half are marked."""
    numbers, first, second = jax.random.split(key, 3)
    values = jax.random.uniform(numbers, (batch, delay))
    tenth, half = max(1, delay // 10), delay // 2
    places = jnp.stack(
        [jax.random.randint(first, (batch,), 0, tenth), jax.random.randint(second, (batch,), half, delay)], axis=-1
    )
    marks = jax.nn.one_hot(places, delay).sum(1)
    return Batch(jnp.stack([values, marks], axis=-1), jnp.sum(values * marks, axis=-1, keepdims=True))


def copying(key: jax.Array, batch: int, delay: int) -> Batch:
    """`SYMBOLS` symbols, `delay` steps of silence, and a signal while the symbols are to be said again, in order."""
    symbols = jax.random.randint(key, (batch, SYMBOLS), 0, ALPHABET)
    silence = jnp.full((batch, delay), ALPHABET)
    signal = jnp.full((batch, SYMBOLS), ALPHABET + 1)
    return Batch(jax.nn.one_hot(jnp.concatenate([symbols, silence, signal], axis=1), ALPHABET + 2), symbols)


TASKS: dict[str, Callable[[jax.Array, int, int], Batch]] = {"adding": adding, "copying": copying}


class Network(nnx.Module):
    """One recurrent layer and a dense layer: `(batch, time, features)` -> `(batch, answers, outputs)`, at the end."""

    def __init__(self, cell: str, task: str, options: Options) -> None:
        rngs = nnx.Rngs(options.seed)
        features, outputs, self.answers = (2, 1, 1) if task == "adding" else (ALPHABET + 2, ALPHABET, SYMBOLS)
        own: dict[str, Any] = {"forget_bias": options.forget_bias} if cell == "LSTM" else {}
        self.layer = CELLS[cell](features, options.hidden, rngs=rngs, **own)
        self.out = Dense(options.hidden, outputs, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """The answers at the last steps."""
        y, _ = self.layer(inputs)
        return self.out(y[:, -self.answers :])


def loss_fn(model: Network, batch: Batch, key: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The squared error of adding, the cross-entropy of copying; `score` is that error, or the share that is right."""
    said = model(batch.inputs)
    if jnp.issubdtype(batch.targets.dtype, jnp.integer):
        losses = optax.softmax_cross_entropy_with_integer_labels(said, batch.targets).mean(-1)
        return losses, {"score": (jnp.argmax(said, -1) == batch.targets).mean(-1)}
    losses = jnp.square(said[..., 0] - batch.targets).mean(-1)
    return losses, {"score": losses}


def main(options: Options) -> None:
    """Trains every network on every task and delay, and draws what they remember."""
    for name in ("steps", "batch_size", "hidden"):
        check_positive(name, getattr(options, name))
    if not options.delays or min(options.delays) < 2:
        raise ValueError(f"--delays must be at least 2 steps each, not {options.delays}")
    folder = train.RunFolder.create(options.run, dataclasses.asdict(options))
    scores: dict[str, dict[str, list[float]]] = {task: {cell: [] for cell in CELLS} for task in TASKS}
    gradients: dict[str, dict[str, list[float]]] = {"before training": {}, "after training": {}}
    longest = max(options.delays)
    began = time.perf_counter()
    for task in TASKS:
        for delay in sorted(options.delays):
            for cell in CELLS:
                network = Network(cell, task, options)
                trained, score = learn(network, task, delay, options)
                scores[task][cell].append(score)
                if (task, delay) == ("adding", longest):
                    examples = adding(jax.random.key(options.seed), 256, longest).inputs
                    gradients["before training"][cell] = reach(network, examples).tolist()
                    gradients["after training"][cell] = reach(trained, examples).tolist()
            said = "  ".join(f"{cell} {scores[task][cell][-1]:7.2%}" for cell in CELLS)
            if task == "adding":
                said = "  ".join(f"{cell} {scores[task][cell][-1]:.4f}" for cell in CELLS)
            what = "squared error" if task == "adding" else "symbols right"
            print(f"{task:>7}, delay {delay:>4}: {what}  {said}  ({GUESS[task]:.3g} without memory)", flush=True)
    draw(sorted(options.delays), scores, gradients, folder / "memory.png")
    result = {"delays": sorted(options.delays), "scores": scores, "gradients": gradients}
    with replacing(folder / "result.json") as beside:
        beside.write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - began:.0f} s; the picture and numbers are in {folder.path}")


def learn(network: Network, task: str, delay: int, options: Options) -> tuple[Network, float]:
    """Trains a network on new examples in every step, as one compiled program; returns it and its score on others."""
    tx = train.optimizer("adam", options.learning_rate, steps=options.steps, schedule="cosine", clip_norm=options.clip)
    state = train.create_state(network, tx, jax.random.key(options.seed))
    step = train.make_step(loss_fn)

    @partial(jax.jit, donate_argnums=0)
    def training(state: train.TrainState, keys: jax.Array) -> train.TrainState:
        return jax.lax.scan(lambda s, k: (step(s, TASKS[task](k, options.batch_size, delay))[0], None), state, keys)[0]

    *keys, test = jax.random.split(jax.random.key(options.seed + 1), options.steps + 1)
    state = training(state, jnp.stack(keys))
    score = train.evaluate(state, TASKS[task](test, 1024, delay), loss_fn)["score"]
    return state.model(), float(score)


def reach(network: Network, inputs: jax.Array) -> np.ndarray:
    r"""How much the answer depends on each input, `(time,)`: the mean of $\|\partial y / \partial x_t\|$."""

    @jax.jit
    def gradient(network: Any, inputs: jax.Array) -> jax.Array:
        return jax.grad(lambda x: jnp.sum(network(x)))(inputs)

    return np.asarray(jnp.linalg.norm(gradient(network, inputs), axis=-1).mean(0))


def draw(delays: list[int], scores: Any, gradients: Any, path: Path) -> None:
    """Gradients over time above, what was learned over the delays below, in one picture."""
    figure = new_figure(10.0, 7.2)
    (*above,), (*below,) = figure.subplots(2, 2)
    for axes, (when, of_cells) in zip(above, gradients.items(), strict=True):
        for cell, norms in of_cells.items():
            axes.semilogy(np.arange(len(norms))[::-1], np.maximum(norms, 1e-12), color=COLOURS[cell], label=cell)
        axes.set(xlabel="steps back from the answer", ylabel="gradient of the answer by that input")
        axes.set_title(f"adding over {delays[-1]} steps, {when}", fontsize=10)
    for axes, (task, of_cells) in zip(below, scores.items(), strict=True):
        for cell, values in of_cells.items():
            axes.plot(delays, values, "o-", markersize=4, color=COLOURS[cell], label=cell)
        axes.axhline(GUESS[task], color="#888888", linestyle="--", linewidth=1, label="without memory")
        axes.set(xlabel="delay in steps", xscale="log")
        axes.set_xticks(delays, [str(delay) for delay in delays])
        axes.minorticks_off()
        axes.set_title(f"{task}, after training", fontsize=10)
    below[0].set(ylabel="squared error (lower is better)", yscale="log")
    below[1].set(ylabel="share of symbols right", ylim=(0, 1.03))
    for axes in (*above, *below):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    run(main, Options, __doc__)
