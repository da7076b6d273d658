"""Learning to classify pictures: the options that lenet5, cifar10, rows and sweep share, and what they come to."""

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from experiments.cli.checks import as_typed, expect, expect_counts, expect_numbers, expect_share, steps_of
from experiments.cli.options import Devices, Kept, chosen, join, keeping, to_resume
from jaxnn import data, plots, train
from jaxnn.data import Dataset
from jaxnn.data.loading import Name
from jaxnn.train.devices import distributed
from jaxnn.train.losses import LossFn
from jaxnn.train.run import History
from jaxnn.train.run.tensorboard import need_tensorboardx
from jaxnn.train.step import augment


@dataclasses.dataclass(frozen=True)
class Pictures(Kept):
    """The pictures, and how to learn from them at whatever learning rate; every experiment sets its own defaults."""

    data: Name = "digits"
    """The pictures: scikit-learn's digits (8x8, no network needed), a published set, or MNIST-format files (idx)."""
    data_dir: Path | None = None
    """A folder with a copy of the data, such as torchvision's or Keras's; without, they are found or downloaded."""
    epochs: int = 10
    """Passes over the training pictures."""
    batch_size: int = 128
    """Pictures a step."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Adam, AdamW (with --weight-decay), or SGD with Nesterov momentum 0.9."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """How the learning rate goes: constant, warm-up and cosine, or one-cycle."""
    weight_decay: float = 0.0
    """Decoupled weight decay of the weights, for adamw and sgd."""
    l2: float = 0.0
    """Scale of the L2 penalty of the weights, added to the loss."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""
    normalize: bool = False
    """Bring each colour to mean zero and variance one over the training pictures, besides scaling to 0 to 1."""
    flip: bool = False
    """Mirror each training picture left to right, by a coin's throw."""
    shift: int = 0
    """Shift each training picture by up to this many pixels, its border reflected."""
    cutout: int = 0
    """Blank a square of this side in each training picture."""

    def check(self) -> None:
        """Raises where an option makes no sense, before anything is loaded."""
        expect_counts(self, "batch_size", "epochs", "checkpoint_every")
        expect_counts(self, "shift", "cutout", "seed", least=0)
        expect_numbers(self, "l2", "weight_decay")
        expect_share(self, "label_smoothing")
        advice = "0 for --optimizer adam; --optimizer adamw decays weights, and --l2 penalises them"
        expect("weight_decay", self.weight_decay, not self.weight_decay or self.optimizer != "adam", advice)


@dataclasses.dataclass(frozen=True)
class Training(Pictures, Devices):
    """How to train one network at a time."""

    learning_rate: float = 1e-3
    """The highest learning rate of the run."""
    precision: Literal["float32", "bf16", "float16"] = "float32"
    """What the layers compute in; parameters are float32 in each, and float16 has a loss scale that adjusts itself."""
    chunk: int | None = None
    """Steps a compiled program, to save every minute inside of long epochs; by default an epoch is one program."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, to tensorboard/ in the run folder."""
    dry_run: bool = False
    """Tell parameters, FLOPs, memory and the time to compile; train nothing and write nothing."""

    def check(self) -> None:
        """As for `Pictures`; also joins the other processes of the job."""
        super().check()
        expect_counts(self, "chunk")
        expect_numbers(self, "learning_rate")
        if self.tensorboard:
            need_tensorboardx()
        join(self, self.batch_size)


class Recipe(NamedTuple):
    """What the options come to: an optimiser, a loss, and what else `fit` and `ensemble.fit` take."""

    tx: optax.GradientTransformation
    loss_fn: LossFn
    how: dict[str, Any]


class Learned(NamedTuple):
    """A trained network, how it went, what it takes the held-out pictures for, and the seconds of training alone."""

    state: train.TrainState
    history: History
    predicted: np.ndarray
    accuracy: float
    seconds: float


def load(options: Pictures, networks: Sequence[str] = ("",)) -> Dataset:
    """The pictures, once the options are known to make sense; `networks` are those of a run that goes on."""
    options.check()
    if options.resume is not None:
        to_resume(options.resume, networks)  # a folder that is not there is told before anything is loaded
    with as_typed(data_dir="--data-dir"):
        return data.load(options.data, options.data_dir)


def introduce(model: nnx.Module, pictures: Dataset) -> int:
    """Says what is about to be trained, on what; returns the number of parameters."""
    parameters = optax.tree.size(nnx.state(model, nnx.Param))
    print(
        f"{type(model).__name__} with {parameters:,} parameters on {pictures.name}: {len(pictures.train.labels):,} "
        f"pictures to train on, {len(pictures.test.labels):,} held out; {jax.devices()[0].device_kind}"
    )
    return parameters


def recipe_of(options: Pictures, pictures: Dataset, learning_rate: float) -> Recipe:
    """Optimiser, loss, penalty and preprocessing; raises where the options do not fit the pictures."""
    height, width = pictures.train.images.shape[1:3]
    side = min(height, width)
    expect("shift", options.shift, options.shift < side, f"less than {side} pixels, for pictures of {height}x{width}")
    expect("cutout", options.cutout, options.cutout <= side, f"{side} pixels at most, for pictures of {height}x{width}")
    changes: list[augment.Augmentation] = [augment.random_flip] if options.flip else []
    if options.shift:
        changes.append(lambda key, images: augment.random_shift(key, images, options.shift))
    if options.cutout:
        changes.append(lambda key, images: augment.cutout(key, images, options.cutout))
    mean, std = data.channel_statistics(pictures.train.images) if options.normalize else (0.0, 1.0)
    augmentation = augment.compose(*changes) if changes else None
    tx = train.optimizer(
        options.optimizer,
        learning_rate,
        steps=steps_of(options.epochs, len(pictures.train.labels), options.batch_size),
        schedule=options.schedule,
        weight_decay=options.weight_decay,
    )
    how = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "penalty": train.losses.l2(options.l2) if options.l2 else None,
        "preprocess": train.image_preprocess(mean=mean, std=std, augmentation=augmentation),
    }
    return Recipe(tx, train.losses.classification(options.label_smoothing), how)


def foretell(options: Training, recipe: Recipe, model: nnx.Module, pictures: Dataset) -> None:
    """Says what `fit` would cost."""
    state = jax.eval_shape(lambda: create_state(options, model, recipe.tx))
    how = _how(options, recipe, pictures)
    print(train.loop.dry_run(state, pictures.train, recipe.loss_fn, **how, resume=options.resume))


def create_state(
    options: Training, model: nnx.Module, tx: optax.GradientTransformation, wrt: Any = None
) -> train.TrainState:
    """The state before the first step, with the loss scale that the precision needs; `wrt` is what is trained."""
    scale = train.precision(options.precision).loss_scale
    return train.create_state(model, tx, jax.random.key(options.seed), wrt=wrt, loss_scale=scale)


@distributed.tell_of_lost_processes()
def fit(
    options: Training,
    recipe: Recipe,
    model: nnx.Module,
    pictures: Dataset,
    run: train.RunFolder,
    *,
    network: str = "",
    wrt: Any = None,
    log: bool = True,
) -> Learned:
    """Trains a model by the recipe, from the checkpoints in the run folder if there are any.

    Args:
        options: The options.
        recipe: What they come to.
        model: The network as it starts.
        pictures: The data.
        run: The run folder.
        network: The folder of its checkpoints, where a run trains several networks.
        wrt: Which parameters to train, as for `train.create_state`; all by default.
        log: Whether to write metrics and curves: those of one network.
    """
    how = _how(options, recipe, pictures)
    state = create_state(options, model, recipe.tx, wrt)
    with train.run.TensorBoard(run) if log and options.tensorboard else nullcontext() as board:
        state, history = train.fit(
            state,
            pictures.train,
            recipe.loss_fn,
            **how,
            run=run if log else None,
            **keeping(options, run, network, best="test_accuracy"),
            sinks=[board] if board else [],
        )
    seconds = sum(record["seconds"] for record in history)  # of a run that was stopped, those before it too
    if how["parallel"] is not None:
        state = how["parallel"].everywhere(state)  # drawing and predicting are small, for each device by itself
    preprocess = how["preprocess"]
    logits = train.predict(state, pictures.test, lambda model, batch: model(batch.images), preprocess=preprocess)
    predicted = np.asarray(logits).argmax(-1)
    return Learned(state, history, predicted, float((predicted == pictures.test.labels).mean()), seconds)


def _how(options: Training, recipe: Recipe, pictures: Dataset) -> dict[str, Any]:
    """What `train.fit` and `train.loop.dry_run` both take."""
    parallel = chosen(options, options.batch_size)
    return {**recipe.how, "test_data": pictures.test, "chunk": options.chunk, "parallel": parallel}


def export(run: train.RunFolder, recipe: Recipe, learned: Learned, pictures: Dataset) -> None:
    """Writes model.jaxprogram, which `experiments.serve` reads: preprocessing and network, for a batch of any size."""
    about = {"data": pictures.name, "classes": pictures.classes}
    example, preprocess = pictures.test.images[:1], recipe.how["preprocess"]
    train.export(learned.state, example, preprocess=preprocess, about=about).save(run / "model.jaxprogram")


def draw(run: train.RunFolder, learned: Learned, pictures: Dataset) -> None:
    """Draws the confusion matrix, and some of the held-out pictures with what the network takes them for."""
    test, predicted = pictures.test, learned.predicted
    plots.confusion(test.labels, predicted, run / "confusion.png", pictures.classes)
    plots.predictions(test.images, test.labels, predicted, run / "predictions.png", pictures.classes, most=32)


def report(run: train.RunFolder, learned: Learned, parameters: int) -> None:
    """Writes result.json, and says how the training ended."""
    result = {"test_accuracy": learned.accuracy, "seconds": learned.seconds, "parameters": parameters}
    run.write_json("result.json", result | {"epochs": len(learned.history)})
    print(f"test accuracy {learned.accuracy:.2%} after {learned.seconds:.0f} s; pictures and metrics are in {run.path}")
