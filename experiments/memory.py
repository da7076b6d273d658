"""The vanishing gradient made visible: what an RNN, a GRU and an LSTM remember over growing delays.

    python -m experiments.memory
    python -m experiments.memory --delays 20 50 100 200
    python -m experiments.memory --cells lstm,gru --delays 256 1024 4096 --steps 600

Two tasks that nothing but memory solves. *Adding*: random numbers, two of them marked; say their sum at the end.
*Copying*: a few symbols, a long silence; say the symbols again. Each network is trained on each delay; memory.png shows
how the gradient fades on its way back through time, before and after training, what was learned, and the time of a
training step.

An RNN passes everything it knows through its weights and a tanh at every step, so its gradient vanishes, and the more
so the more it saturates; that its recurrent matrix starts orthogonal only helps at first. The gates of a GRU and an
LSTM decide how long they keep something. They start out keeping for 1 to `delay` steps, a different time in each unit
(chrono initialisation); with `--no-chrono` they start as the library's layers do.

References:
    Hochreiter and Schmidhuber, Long Short-Term Memory, 1997 (both tasks). Arjovsky, Shah and Bengio, Unitary Evolution
    Recurrent Neural Networks, 2016 (in this form). Tallec and Ollivier, Can Recurrent Neural Networks Warp Time?, 2018
    (chrono initialisation).
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.data.memory_tasks import ALPHABET, GUESS, NEAR, SYMBOLS, TASKS, Batch, adding
from jaxnn import cli, inspect, train
from jaxnn import functional as F
from jaxnn.modules import Cell, Dense, Recurrent
from jaxnn.plots.figure import new_figure, plain, save


class Kind(NamedTuple):
    """A row of the table of cells.

    Attributes:
        name: As the picture and the results call it.
        cell: The cell.
        init: `(key, features, hidden) -> parameters`, with `bias_init` where gates keep.
        colour: Of its lines.
        keeps: For each gate, 1 where it keeps the state and -1 where it takes in the input; () without such gates.
    """

    name: str
    cell: F.Cell
    init: Callable[..., Any]
    colour: str
    keeps: tuple[int, ...] = ()


CELLS = {
    "rnn": Kind("RNN", F.rnn_cell(), F.init_rnn, "#e8590c"),
    "gru": Kind("GRU", F.gru_cell(), F.init_gru, "#2f9e44", keeps=(0, 1, 0)),
    "lstm": Kind("LSTM", F.lstm_cell(), F.init_lstm, "#1f77b4", keeps=(-1, 1, 0, 0)),
    "mingru": Kind("minGRU", F.mingru_cell(), F.init_mingru, "#ae3ec9", keeps=(-1, 0)),
    "minlstm": Kind("minLSTM", F.minlstm_cell(), F.init_minlstm, "#0b7285", keeps=(-1, 1, 0)),
    "lru": Kind("LRU", F.lru_cell(), F.init_lru, "#868e96"),
}
GONE = 1e-12
"""Gradients below are not drawn."""


CHUNK = 400
"""Steps of a compiled program; between programs a checkpoint is saved once a minute has passed."""


@dataclasses.dataclass(frozen=True)
class Options(cli.Trained):
    """Options of the networks."""

    cells: tuple[str, ...] = ("rnn", "gru", "lstm")
    """Which cells to compare; separated by commas or spaces."""
    delays: tuple[cli.Several, ...] = (10, 30, 80)
    """Steps over which something has to be remembered; each network is trained on each."""
    steps: cli.Count = 2400
    """Training steps of each network; examples are new in each."""
    batch_size: cli.Count = 32
    """Sequences a step."""
    hidden: cli.Count = 48
    """Hidden units."""
    learning_rate: cli.Number = 1e-2
    """Of Adam, the highest: it warms up, then falls as half a cosine."""
    clip: Annotated[float, cli.Bound("a positive number", lambda x: x > 0)] = 1.0
    """The longest gradient; longer ones are scaled down."""
    chrono: bool = True
    """Whether the gates start out keeping for 1 to `delay` steps, a different time in each unit."""
    run: Path = Path("runs/memory")


class Network(nnx.Module):
    """One recurrent layer and a dense layer: `(batch, time, features)` -> `(batch, answers, outputs)`, at the end."""

    def __init__(self, cell: str, task: str, delay: int, options: Options) -> None:
        rngs, kind = nnx.Rngs(options.seed), CELLS[cell]
        features, outputs, self.answers = (2, 1, 1) if task == "adding" else (ALPHABET + 2, ALPHABET, SYMBOLS)
        own: dict[str, Any] = {}
        if options.chrono and kind.keeps:
            own["bias_init"] = F.chrono(kind.keeps, options.hidden, delay)
        self.cell = cell
        self.recurrent = Recurrent(Cell(kind.cell, kind.init(rngs.params(), features, options.hidden, **own)))
        y = jax.eval_shape(self.recurrent, jnp.zeros((1, features)))
        self.out = Dense(y.shape[-1], outputs, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """The answers at the last steps."""
        return self.out(self.recurrent(inputs)[:, -self.answers :])


def loss_fn(model: Network, batch: Batch, key: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The squared error of adding, the cross-entropy of copying, and the share of sums or symbols that is right."""
    said = model(batch.inputs)
    if jnp.issubdtype(batch.targets.dtype, jnp.integer):
        losses = optax.softmax_cross_entropy_with_integer_labels(said, batch.targets).mean(-1)
        return losses, {"right": (jnp.argmax(said, -1) == batch.targets).mean(-1)}
    errors = said[..., 0] - batch.targets
    return jnp.square(errors).mean(-1), {"right": (jnp.abs(errors) < NEAR).mean(-1)}


def main(options: Options) -> None:
    """Trains every network on every task and delay, and draws what they remember."""
    cli.expect("delays", "none", len(options.delays) > 0, "at least one")
    cells, delays = chosen(options.cells), sorted(options.delays)
    networks = [name_of(cell, task, delay) for task in TASKS for delay in delays for cell in cells]
    cli.check_run(options, networks)
    if options.dry_run:
        print(f"one of {len(networks)} networks, over the longest delay:")
        network = Network(cells[0], "adding", delays[-1], options)
        cli.dry_run(options, lambda: create_state(network, options), **work_of("adding", delays[-1], options))
        return
    folder = cli.folder_of(options, networks)
    scores: dict[str, dict[str, list[dict[str, float]]]] = {
        task: {CELLS[cell].name: [] for cell in cells} for task in TASKS
    }
    gradients: dict[str, dict[str, list[float]]] = {"before training": {}, "after training": {}}
    began = time.perf_counter()
    for task in TASKS:
        for delay in delays:
            for cell in cells:
                name, network = CELLS[cell].name, Network(cell, task, delay, options)
                trained, score = learn(network, task, delay, options, folder)
                scores[task][name].append(score)
                if (task, delay) == ("adding", delays[-1]):
                    examples = adding(jax.random.key(options.seed), 256, delay).inputs
                    gradients["before training"][name] = inspect.reach(network, examples).tolist()
                    gradients["after training"][name] = inspect.reach(trained, examples).tolist()
            print(
                f"{task:>7}, delay {delay:>4}, right:  {line(scores[task])}  without memory {GUESS[task]:.1%}",
                flush=True,
            )
    draw(delays, scores, gradients, folder / "memory.png")
    result = {"delays": delays, "scores": scores, "gradients": gradients}
    folder.write_json("result.json", result)
    print(f"{time.perf_counter() - began:.0f} s; the picture and numbers are in {folder.path}")


def chosen(written: tuple[str, ...]) -> list[str]:
    """The names of cells that were typed, each once."""
    names = [name for word in written for name in word.split(",") if name]
    cli.expect("cells", "none", len(names) > 0, "at least one")
    for name in names:
        cli.expect("cells", name, name in CELLS, f"some of {', '.join(CELLS)}")
    return list(dict.fromkeys(names))


def line(of_cells: dict[str, list[dict[str, float]]]) -> str:
    """The last scores of each network, in words."""
    last = {cell: scores[-1] for cell, scores in of_cells.items()}
    return "  ".join(
        f"{cell} {score['right']:6.1%} (loss {score['loss']:.4f}, {1e3 * score['seconds_per_step']:.1f} ms a step)"
        for cell, score in last.items()
    )


def create_state(network: Network, options: Options) -> train.TrainState:
    """The state before the first step."""
    tx = train.optimizer("adam", options.learning_rate, steps=options.steps, schedule="cosine", clip_norm=options.clip)
    return train.create_state(network, tx, jax.random.key(options.seed))


def work_of(task: str, delay: int, options: Options) -> dict[str, Any]:
    """Arguments of `train.fit` beside the state: new examples in every step, in one epoch."""
    examples = train.Generated(lambda key: TASKS[task](key, options.batch_size, delay), options.steps)
    return {"data": examples, "loss_fn": loss_fn, "epochs": 1, "chunk": min(options.steps, CHUNK)}


def learn(
    network: Network, task: str, delay: int, options: Options, folder: train.RunFolder
) -> tuple[Network, dict[str, float]]:
    """Trains a network; returns it and its scores on other examples.

    The scores are the loss, the share that is right, and the seconds that a training step took, without compiling.
    """
    work = work_of(task, delay, options)
    kept = cli.keeping(options, folder, name_of(network.cell, task, delay), log=False)
    state, history = train.fit(create_state(network, options), **work, **kept, progress=False)
    scores = train.evaluate(state, TASKS[task](jax.random.key(options.seed + 1), 1024, delay), loss_fn)
    rated = {name: float(scores[name]) for name in ("loss", "right")}
    return state.model(), {**rated, "seconds_per_step": history[-1]["seconds"] / options.steps}


def name_of(cell: str, task: str, delay: int) -> str:
    """The folder of a network's checkpoints."""
    return f"{task}-{delay}-{cell}"


def draw(delays: list[int], scores: Any, gradients: Any, path: Path) -> None:
    """Gradients over time above, what was learned over the delays below, the time of a step beside, in one picture."""
    colours = {kind.name: kind.colour for kind in CELLS.values()}
    # So that lines that coincide are all seen, the first is the widest.
    width = {cell: max(1.0, 2.6 - 0.6 * number) for number, cell in enumerate(scores["adding"])}
    figure = new_figure(14.0, 7.2)
    (*above, above_right), (*below, below_right) = figure.subplots(2, 3)
    for axes, (when, of_cells) in zip(above, gradients.items(), strict=True):
        for cell, norms in of_cells.items():
            seen = np.where(np.asarray(norms) < GONE, np.nan, norms)
            axes.semilogy(np.arange(len(norms))[::-1], seen, color=colours[cell], label=cell)
        axes.set(xlabel="steps back from the answer", ylabel="gradient of the answer by that input")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(f"adding over {delays[-1]} steps, {when}", fontsize=10)
    for axes, beside, (task, of_cells) in zip(below, (above_right, below_right), scores.items(), strict=True):
        for cell, values in of_cells.items():
            shape = {"markersize": 3 * width[cell], "linewidth": width[cell], "color": colours[cell]}
            axes.plot(delays, [value["right"] for value in values], "o-", **shape, label=cell)
            beside.loglog(delays, [1e3 * value["seconds_per_step"] for value in values], "o-", **shape, label=cell)
        axes.axhline(GUESS[task], color="#888888", linestyle="--", linewidth=1, label="without memory")
        axes.set_title(f"{task}, after training", fontsize=10)
        beside.set_title(f"{task}, time of a training step", fontsize=10)
        beside.set(ylabel="ms")
    for axes in (*below, above_right, below_right):
        axes.set(xlabel="delay in steps", xscale="log")
        axes.set_xticks(delays, [str(delay) for delay in delays])
        axes.minorticks_off()
    below[0].set(ylabel=f"share of sums right to {NEAR}", ylim=(0, 1.03))
    below[1].set(ylabel="share of symbols right", ylim=(0, 1.03))
    for axes in (*above, *below, above_right, below_right):
        plain(axes)
        axes.legend(frameon=False, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
