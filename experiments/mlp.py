"""A feed-forward network learns digits by back-propagation, once each with sigmoid, tanh and ReLU.

    python -m experiments.mlp
    python -m experiments.mlp --hidden 100 100 100 --learning-rate 0.1

Plain stochastic gradient descent over epochs, so that what the activation does to the gradient shows: how fast each
learns, and how much of the gradient reaches the first layer. Leaves curves of all three in the run folder, and
checkpoints on the way: `python -m experiments.mlp --resume runs/mlp` goes on with a run that was stopped or killed.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments.cli import dry_run
from experiments.cli.checks import expect, expect_counts, steps_of
from experiments.cli.command import run
from experiments.cli.spread import folder_of, kept, to_resume
from jaxnn import data, models, plots, train
from jaxnn.data import Dataset
from jaxnn.files import replacing
from jaxnn.train.step.step import Preprocess

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "tanh": jax.nn.tanh, "ReLU": jax.nn.relu}


@dataclasses.dataclass
class Options:
    """How to train."""

    hidden: tuple[int, ...] = (64, 64)
    """Features of each hidden layer."""
    epochs: int = 30
    """Passes over the training pictures."""
    batch_size: int = 32
    """Pictures a step."""
    learning_rate: float = 0.1
    """Of plain stochastic gradient descent."""
    seed: int = 0
    """Everything random follows from it."""
    run: Path = Path("runs/mlp")
    """The run folder; a number is added where it exists, nothing is overwritten."""
    resume: Path | None = None
    """Go on with the run in this folder, with its options, to the same end as if it had never stopped."""
    checkpoint_every: int = 10
    """Epochs from one checkpoint to the next."""
    dry_run: bool = False
    """Tell parameters, FLOPs, memory and the time to compile; train nothing and write nothing."""


FREE = ("run", "resume", "checkpoint_every", "dry_run")
"""Options that a run may change when it goes on."""


def main(options: Options) -> None:
    """Trains one network an activation, and says what each reached."""
    expect_counts(options, "epochs", "batch_size", "hidden", "checkpoint_every")
    expect_counts(options, "seed", least=0)
    rate = options.learning_rate
    expect("learning_rate", rate, 0 < rate < math.inf, "a finite positive number")
    if options.resume is not None:
        to_resume(options.resume, tuple(ACTIVATIONS))  # a folder that is not there is told before anything is loaded
    digits = data.load_digits()
    steps_of(options.epochs, len(digits.train.labels), options.batch_size)
    to_rows = rows(train.image_preprocess(mean=0.3, std=0.4))
    loss_fn = train.classification_loss()
    if options.dry_run:
        foretell(options, digits, train.make_step(loss_fn, preprocess=to_rows))
        return
    folder = folder_of(options, tuple(ACTIVATIONS))
    results, curves = {}, {}
    for name, activation in ACTIVATIONS.items():
        state = start(options, activation)
        shares = gradient_by_layer(state, digits.train, to_rows)
        state, history = train.fit(
            state,
            digits.train,
            loss_fn,
            test_data=digits.test,
            epochs=options.epochs,
            batch_size=options.batch_size,
            preprocess=to_rows,
            checkpoints=train.Checkpoints(
                folder / "checkpoints" / name,
                resume=options.resume is not None,
                every=options.checkpoint_every,
                config=kept(options, FREE),
            ),
            progress=False,
        )
        curves[name] = history
        results[name] = {"test_accuracy": history[-1]["test_accuracy"], "gradient_by_layer": shares}
        print(
            f"{name:>8}: test accuracy {history[-1]['test_accuracy']:7.2%} after {options.epochs} epochs; at the start "
            f"the gradient's norm was {', '.join(f'{s:.3f}' for s in shares)} from the first layer to the last"
        )
    plots.compare(curves, folder / "curves.png", metric="test_accuracy")
    with replacing(folder / "result.json") as beside:
        beside.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"curves and numbers are in {folder.path}")


def start(options: Options, activation: Callable[[jax.Array], jax.Array]) -> train.TrainState:
    """The state before the first step; its weights are the same whatever the activation."""
    net = models.MLP((64, *options.hidden, 10), activation=activation, rngs=nnx.Rngs(options.seed))
    return train.create_state(net, optax.sgd(options.learning_rate), jax.random.key(options.seed))


def foretell(options: Options, digits: Dataset, step: Callable[..., Any]) -> None:
    """Says what training one of the networks would cost."""
    print(f"{len(ACTIVATIONS)} networks are trained one after another; each:")
    dry_run.tell(
        lambda: start(options, jax.nn.relu),
        step,
        digits,
        epochs=options.epochs,
        batch_size=options.batch_size,
        resume=options.resume,
    )


def rows(preprocess: Preprocess) -> Preprocess:
    """Pictures as the rows that a feed-forward network takes."""

    def to_rows(key: jax.Array | None, batch: Any) -> Any:
        batch = preprocess(key, batch)
        return batch._replace(images=batch.images.reshape(len(batch.images), -1))

    return to_rows


def gradient_by_layer(state: train.TrainState, examples: Any, preprocess: Preprocess) -> list[float]:
    """The norm of the mean loss's gradient in each layer's weights, from the first layer to the last."""
    batch = preprocess(None, jax.tree.map(jnp.asarray, examples))
    graphdef, params = nnx.split(state.model())

    def loss(params: Any) -> jax.Array:
        losses, _ = train.classification_loss()(nnx.merge(graphdef, params), batch, None)
        return losses.mean()

    grads = nnx.to_pure_dict(jax.grad(loss)(params))["layers"]
    return [float(jnp.linalg.norm(grads[i]["kernel"])) for i in sorted(grads)]


if __name__ == "__main__":
    run(main, Options, __doc__)
