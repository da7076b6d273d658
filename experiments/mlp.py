"""A feed-forward network learns digits by back-propagation, once each with sigmoid, tanh and ReLU.

    python -m experiments.mlp
    python -m experiments.mlp --hidden 100 100 100 --learning-rate 0.1

Trains by plain stochastic gradient descent, so that the effect of the activation on the gradient shows: how fast each
network learns, and how much of the gradient reaches the first layer. Writes config.json, result.json and curves.png.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxnn import cli, data, models, plots, train

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "tanh": jax.nn.tanh, "ReLU": jax.nn.relu}
LOSS = train.losses.classification()


@dataclasses.dataclass(frozen=True)
class Options(cli.Epochs):
    """How to train."""

    hidden: tuple[cli.Count, ...] = (64, 64)
    """Features of each hidden layer."""
    epochs: cli.Count = 30
    batch_size: cli.Count = 32
    learning_rate: cli.Positive = 0.1
    """Learning rate of stochastic gradient descent, constant."""
    run: Path = Path("runs/mlp")
    checkpoint_every: cli.Count = 10


def main(options: Options) -> None:
    """Trains one network per activation and prints their accuracies."""
    cli.check_run(options, tuple(ACTIVATIONS))
    digits = data.load_digits()
    cli.steps_of(options.epochs, len(digits.train.labels), options.batch_size)
    work: dict[str, Any] = {"data": digits.train, "loss_fn": LOSS, "test_data": digits.test, "preprocess": rows}
    work |= {"epochs": options.epochs, "batch_size": options.batch_size}

    def start(activation: Callable[[jax.Array], jax.Array]) -> train.TrainState:
        """Creates the state; its weights do not depend on the activation."""
        net = models.MLP((64, *options.hidden, 10), activation=activation, rngs=nnx.Rngs(options.seed))
        return train.create_state(net, optax.sgd(options.learning_rate), jax.random.key(options.seed))

    if options.dry_run:
        print(f"{len(ACTIVATIONS)} networks are trained one after another; each:")
        cli.dry_run(options, lambda: start(jax.nn.relu), **work)
        return
    folder = cli.folder_of(options, tuple(ACTIVATIONS))
    results, curves = {}, {}
    for name, activation in ACTIVATIONS.items():
        state = start(activation)
        norms = gradient_by_layer(state, digits.train)
        kept = cli.keeping(options, folder, name, log=False)
        _, curves[name] = train.fit(state, **work, **kept, progress=False)
        accuracy = curves[name][-1]["test_accuracy"]
        results[name] = {"test_accuracy": accuracy, "gradient_by_layer": norms}
        print(
            f"{name:>8}: test accuracy {accuracy:7.2%} after {options.epochs} epochs; at the start the gradient's norm "
            f"was {', '.join(f'{norm:.3f}' for norm in norms)} from the first layer to the last"
        )
    plots.compare(curves, folder / "curves.png", metric="test_accuracy")
    folder.write_json("result.json", results)
    print(f"curves and numbers are in {folder.path}")


def rows(key: jax.Array | None, batch: Any) -> Any:
    """Flattens pictures to the rows that a feed-forward network takes."""
    batch = train.image_preprocess(mean=0.3, std=0.4)(key, batch)
    return batch._replace(images=batch.images.reshape(len(batch.images), -1))


def gradient_by_layer(state: train.TrainState, examples: Any) -> list[float]:
    """The norm of the mean loss's gradient in each layer's weights, from the first layer to the last."""
    batch = rows(None, jax.tree.map(jnp.asarray, examples))
    grads = nnx.grad(lambda model: LOSS(model, batch, None)[0].mean())(state.model())
    layers = nnx.to_pure_dict(grads)["layers"]
    return [float(jnp.linalg.norm(layers[i]["kernel"])) for i in sorted(layers)]


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
