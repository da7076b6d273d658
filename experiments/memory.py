"""The vanishing gradient made visible: what an RNN, a GRU and an LSTM remember over growing delays.

    python -m experiments.memory
    python -m experiments.memory --delays 20 50 100 200
    python -m experiments.memory --cells lstm gru --delays 256 1024 4096 --steps 600

Two tasks that need memory. *Adding*: random numbers, two of which are marked; the target is the sum of these two.
*Copying*: a few symbols, then many blanks; the target is the symbols again. Each network is trained on each delay.
memory.png shows how the gradient decays on its way back through time, before and after training, the accuracy, and the
time of a training step.

The gradient of an RNN vanishes, since its whole state passes through its weights and a tanh at every step. The gates of
a GRU and an LSTM control how long each unit keeps its state. They are initialised to keep it for 1 to `delay` steps, a
different time in each unit (chrono initialisation); `--no-chrono` initialises them as the library's layers do.

References:
    Hochreiter and Schmidhuber, Long Short-Term Memory, 1997 (both tasks). Arjovsky, Shah and Bengio, Unitary Evolution
    Recurrent Neural Networks, 2016 (in this form). Tallec and Ollivier, Can Recurrent Neural Networks Warp Time?, 2018
    (chrono initialisation).
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnn import cli, inspect, train
from jaxnn import functional as F
from jaxnn.modules import Cell, Dense, Recurrent
from jaxnn.plots.figure import new_figure, plain, save

ALPHABET, SYMBOLS = 4, 2
"""Copying: the number of different symbols, and how many have to be remembered."""
NEAR = 0.1
"""A sum counts as right if its error is smaller."""
GUESS = {"adding": 1 - (1 - NEAR) ** 2, "copying": 1 / ALPHABET}
"""The accuracy without memory: of sums by always answering 1, of symbols by chance."""


class Batch(NamedTuple):
    """Sequences `(batch, time, features)` and the targets of the last steps, `(batch, answers)`."""

    inputs: jax.Array
    targets: jax.Array


def adding(key: jax.Array, batch: int, delay: int) -> Batch:
    """`delay` numbers, uniform in [0, 1]; one of the first tenth and one of the second half are marked."""
    numbers, first, second = jax.random.split(key, 3)
    values = jax.random.uniform(numbers, (batch, delay))
    early = jax.random.randint(first, (batch,), 0, max(1, delay // 10))
    late = jax.random.randint(second, (batch,), delay // 2, delay)
    marks = jax.nn.one_hot(early, delay) + jax.nn.one_hot(late, delay)
    return Batch(jnp.stack([values, marks], axis=-1), jnp.sum(values * marks, axis=-1, keepdims=True))


def copying(key: jax.Array, batch: int, delay: int) -> Batch:
    """`SYMBOLS` symbols, `delay` steps of silence, and a signal at the steps that repeat the symbols in order."""
    symbols = jax.random.randint(key, (batch, SYMBOLS), 0, ALPHABET)
    silence = jnp.full((batch, delay), ALPHABET)
    signal = jnp.full((batch, SYMBOLS), ALPHABET + 1)
    return Batch(jax.nn.one_hot(jnp.concatenate([symbols, silence, signal], axis=1), ALPHABET + 2), symbols)


TASKS: dict[str, Callable[[jax.Array, int, int], Batch]] = {"adding": adding, "copying": copying}


class Kind(NamedTuple):
    """A cell: its name, its functions, and for each gate 1 if it keeps the state, -1 if it lets the input in."""

    name: str
    cell: F.Cell
    init: Callable[..., Any]
    keeps: tuple[int, ...] = ()


CELLS = {
    "rnn": Kind("RNN", F.rnn_cell(), F.init_rnn),
    "gru": Kind("GRU", F.gru_cell(), F.init_gru, keeps=(0, 1, 0)),
    "lstm": Kind("LSTM", F.lstm_cell(), F.init_lstm, keeps=(-1, 1, 0, 0)),
    "mingru": Kind("minGRU", F.mingru_cell(), F.init_mingru, keeps=(-1, 0)),
    "minlstm": Kind("minLSTM", F.minlstm_cell(), F.init_minlstm, keeps=(-1, 1, 0)),
    "lru": Kind("LRU", F.lru_cell(), F.init_lru),
}


@dataclasses.dataclass(frozen=True)
class Options(cli.Trained):
    """Options of the networks."""

    cells: tuple[Literal["rnn", "gru", "lstm", "mingru", "minlstm", "lru"], ...] = ("rnn", "gru", "lstm")
    """Cells to compare."""
    delays: tuple[cli.Several, ...] = (10, 30, 80)
    """Steps over which the network must remember; each cell is trained on each delay."""
    steps: cli.Count = 2400
    """Training steps of each network, each with new examples."""
    batch_size: cli.Count = 32
    """Sequences per step."""
    hidden: cli.Count = 48
    """Hidden units."""
    learning_rate: cli.Number = 1e-2
    """The highest learning rate of Adam's schedule: a warm-up, then half a cosine."""
    clip: Annotated[float, cli.Bound("a positive number", lambda x: x > 0)] = 1.0
    """Largest norm of the gradient; a larger gradient is scaled down."""
    chrono: bool = True
    """Initialise the gates to keep the state for 1 to `delay` steps, a different time in each unit."""
    run: Path = Path("runs/memory")


class Network(nnx.Module):
    """One recurrent layer and a dense layer: `(batch, time, features)` -> `(batch, answers, outputs)`."""

    def __init__(self, cell: str, task: str, delay: int, options: Options) -> None:
        rngs, kind = nnx.Rngs(options.seed), CELLS[cell]
        features, outputs, self.answers = (2, 1, 1) if task == "adding" else (ALPHABET + 2, ALPHABET, SYMBOLS)
        chrono = options.chrono and kind.keeps
        own = {"bias_init": F.chrono(kind.keeps, options.hidden, delay)} if chrono else {}
        self.recurrent = Recurrent(Cell(kind.cell, kind.init(rngs.params(), features, options.hidden, **own)))
        y = jax.eval_shape(self.recurrent, jnp.zeros((1, features)))
        self.out = Dense(y.shape[-1], outputs, rngs=rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """The answers at the last steps."""
        return self.out(self.recurrent(inputs)[:, -self.answers :])


def loss_fn(model: Network, batch: Batch, key: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the squared error (adding) or the cross-entropy (copying), and the accuracy."""
    said = model(batch.inputs)
    if jnp.issubdtype(batch.targets.dtype, jnp.integer):
        losses = optax.softmax_cross_entropy_with_integer_labels(said, batch.targets).mean(-1)
        return losses, {"right": (jnp.argmax(said, -1) == batch.targets).mean(-1)}
    errors = said[..., 0] - batch.targets
    return jnp.square(errors).mean(-1), {"right": (jnp.abs(errors) < NEAR).mean(-1)}


def main(options: Options) -> None:
    """Trains every network on every task and delay, and draws how they remember."""
    for name in ("cells", "delays"):
        cli.expect(name, "none", len(getattr(options, name)) > 0, "at least one")
    cells, delays = list(dict.fromkeys(options.cells)), sorted(options.delays)
    networks = {(task, delay, cell): f"{task}-{delay}-{cell}" for task in TASKS for delay in delays for cell in cells}
    cli.check_run(options, list(networks.values()))
    if not any(CELLS[cell].keeps for cell in cells):
        cli.unused(options, "chrono", because="without a cell that has gates")
    if options.dry_run:
        print(f"one of {len(networks)} networks, over the longest delay:")
        network = Network(cells[0], "adding", delays[-1], options)
        cli.dry_run(options, lambda: create_state(network, options), **work_of("adding", delays[-1], options))
        return
    folder = cli.folder_of(options, list(networks.values()))
    scores: dict[str, dict[str, list[Any]]] = {task: {CELLS[cell].name: [] for cell in cells} for task in TASKS}
    gradients: dict[str, dict[str, list[float]]] = {"before training": {}, "after training": {}}
    began = time.perf_counter()
    for (task, delay, cell), checkpoints in networks.items():
        name, network = CELLS[cell].name, Network(cell, task, delay, options)
        kept = cli.keeping(options, folder, checkpoints, log=False)
        trained, score = learn(network, task, delay, options, kept)
        scores[task][name].append(score)
        if (task, delay) == ("adding", delays[-1]):
            examples = adding(jax.random.key(options.seed), 256, delay).inputs
            for when, each in zip(gradients, (network, trained), strict=True):
                gradients[when][name] = inspect.reach(each, examples).tolist()
        if cell == cells[-1]:
            said = [
                f"{name} {last['right']:6.1%} (loss {last['loss']:.4f}, {1e3 * last['seconds_per_step']:.1f} ms a step)"
                for name, (*_, last) in scores[task].items()
            ]
            about = f"without memory {GUESS[task]:.1%}"
            print(f"{task:>7}, delay {delay:>4}, correct:  {'  '.join([*said, about])}", flush=True)
    draw(delays, scores, gradients, folder / "memory.png")
    folder.write_json("result.json", {"delays": delays, "scores": scores, "gradients": gradients})
    print(f"{time.perf_counter() - began:.0f} s; the picture and numbers are in {folder.path}")


def create_state(network: Network, options: Options) -> train.TrainState:
    tx = train.optimizer("adam", options.learning_rate, steps=options.steps, schedule="cosine", clip_norm=options.clip)
    return train.create_state(network, tx, jax.random.key(options.seed))


def work_of(task: str, delay: int, options: Options) -> dict[str, Any]:
    """Arguments of `train.fit` except the state: one epoch of new examples in every step, saved once a minute."""
    examples = train.Generated(lambda key: TASKS[task](key, options.batch_size, delay), options.steps)
    return {"data": examples, "loss_fn": loss_fn, "epochs": 1, "chunk": min(options.steps, 400)}


def learn(network: Network, task: str, delay: int, options: Options, kept: Any) -> tuple[Network, dict[str, float]]:
    """Trains a network; returns it, its scores on new examples, and the seconds of a training step."""
    state, history = train.fit(create_state(network, options), **work_of(task, delay, options), **kept, progress=False)
    scores = train.evaluate(state, TASKS[task](jax.random.key(options.seed + 1), 1024, delay), loss_fn)
    rated = {name: float(scores[name]) for name in ("loss", "right")}
    return state.model(), {**rated, "seconds_per_step": history[-1]["seconds"] / options.steps}


def draw(delays: list[int], scores: Any, gradients: Any, path: Path) -> None:
    """Draws gradients over time above, accuracies over delays below, and the time of a step on the right."""
    colours = {kind.name: f"C{number}" for number, kind in enumerate(CELLS.values())}
    figure = new_figure(14.0, 7.2)
    grid = figure.subplots(2, 3)
    for axes, (when, of_cells) in zip(grid[0], gradients.items(), strict=False):
        for cell, norms in of_cells.items():
            seen = np.where(np.asarray(norms) < 1e-12, np.nan, norms)  # has vanished: not drawn
            axes.semilogy(np.arange(len(norms))[::-1], seen, color=colours[cell], label=cell)
        axes.set(xlabel="steps back from the answer", ylabel="gradient of the answer by that input")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(f"adding over {delays[-1]} steps, {when}", fontsize=10)
    said = {"adding": f"share of sums right to {NEAR}", "copying": "share of symbols right"}
    for (task, of_cells), below, beside in zip(scores.items(), grid[1], grid[:, 2], strict=False):
        for order, (cell, values) in enumerate(of_cells.items()):
            width = max(1.0, 2.6 - 0.6 * order)  # the first is the widest, so that lines that coincide are all seen
            style = {"marker": "o", "markersize": 3 * width, "linewidth": width, "color": colours[cell], "label": cell}
            below.plot(delays, [value["right"] for value in values], **style)
            beside.loglog(delays, [1e3 * value["seconds_per_step"] for value in values], **style)
        below.axhline(GUESS[task], color="#888888", linestyle="--", linewidth=1, label="without memory")
        below.set(ylabel=said[task], ylim=(0, 1.03))
        low, high = beside.get_ylim()
        beside.set(ylabel="milliseconds", ylim=(low / 2, 2 * high))  # so that some of 1, 2, 5, 10, ... lie inside
        beside.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        beside.yaxis.set_major_formatter("{x:g}")
        for axes, about in ((below, "after training"), (beside, "time of a training step")):
            axes.set(xlabel="delay in steps", xscale="log")
            axes.set_title(f"{task}, {about}", fontsize=10)
            axes.set_xticks(delays, [str(delay) for delay in delays])
            axes.minorticks_off()
    for axes in grid.ravel():
        plain(axes)
        axes.legend(edgecolor="none", fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
