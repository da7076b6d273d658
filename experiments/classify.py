"""Training a network to classify pictures, from options to a run folder: what lenet5 and cifar10 share."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import jax
import numpy as np
import optax
from flax import nnx

from experiments.cli import dry_run
from experiments.cli.checks import as_typed, expect, expect_counts, steps_of
from experiments.cli.spread import Spread, chosen, folder_of, join, kept, to_resume
from jaxnn import data, plots, train
from jaxnn.data import Dataset
from jaxnn.files import replacing
from jaxnn.train.devices import distributed
from jaxnn.train.run import History
from jaxnn.train.run.tensorboard import need_tensorboardx
from jaxnn.train.step import augment
from jaxnn.train.step.step import LossFn, Penalty, Preprocess


@dataclasses.dataclass
class Training(Spread):
    """How to train; every experiment sets its own defaults."""

    data: Literal["digits", "cifar10", "idx"] = "digits"
    """The pictures: scikit-learn's digits (8x8, no network needed), CIFAR-10, or MNIST-format files (idx)."""
    data_dir: Path | None = None
    """A folder with a copy of the data that is already there; CIFAR-10 is downloaded without."""
    epochs: int = 10
    """Passes over the training pictures."""
    batch_size: int = 128
    """Pictures a step."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Adam, AdamW (with --weight-decay), or SGD with Nesterov momentum 0.9."""
    learning_rate: float = 1e-3
    """The highest learning rate of the run."""
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
    precision: Literal["float32", "bf16", "float16"] = "float32"
    """What the layers compute in; parameters are float32 in each, and float16 has a loss scale that adjusts itself."""
    seed: int = 0
    """Everything random follows from it."""
    run: Path = Path("runs/experiment")
    """The run folder; a number is added where it exists, nothing is overwritten."""
    resume: Path | None = None
    """Go on with the run in this folder, with its options, to the same end as if it had never stopped."""
    checkpoint_every: int = 1
    """Epochs from one checkpoint to the next."""
    chunk: int | None = None
    """Steps a compiled program, to save every minute inside of long epochs; by default an epoch is one program."""
    profile: bool = False
    """Write a trace of one compiled program, an epoch or --chunk steps, to profile/ in the run folder, for Perfetto
    (perfetto_trace.json.gz) and XProf."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, to tensorboard/ in the run folder."""
    dry_run: bool = False
    """Tell parameters, FLOPs, memory and the time to compile; train nothing and write nothing."""


FREE = (
    "run",
    "resume",
    "checkpoint_every",
    "profile",
    "tensorboard",
    "dry_run",
    "data_dir",
    *(f.name for f in dataclasses.fields(Spread)),
)
"""Options that a run may change when it goes on: they do not change the numbers, or only how they are rounded."""


class Learned(NamedTuple):
    """A trained network, how it went, what it takes the held-out pictures for, and the seconds of training alone."""

    state: train.TrainState
    history: History
    predicted: np.ndarray
    accuracy: float
    seconds: float


class Recipe(NamedTuple):
    """What the options come to, made and checked before anything is written."""

    tx: optax.GradientTransformation
    loss_fn: LossFn
    penalty: Penalty | None
    preprocess: Preprocess


def classify(options: Training, network: Callable[[Dataset, nnx.Rngs], nnx.Module]) -> None:
    """Loads the data, trains, and leaves config, metrics, model pictures and the test accuracy in a run folder."""
    pictures = load(options)
    recipe = recipe_of(options, pictures)
    model = network(pictures, nnx.Rngs(options.seed))
    parameters = introduce(model, pictures)
    if options.dry_run:
        foretell(options, recipe, pictures, model)
        return
    run = folder_of(options)
    learned = learn(options, recipe, pictures, model, run=run, checkpoints=run / "checkpoints")
    if not distributed.is_first():
        return
    draw(run, learned.state, pictures, learned.predicted)
    result = {
        "test_accuracy": learned.accuracy,
        "seconds": learned.seconds,
        "parameters": parameters,
        "epochs": len(learned.history),
    }
    with replacing(run / "result.json") as beside:
        beside.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"test accuracy {learned.accuracy:.2%} after {learned.seconds:.0f} s; pictures and metrics are in {run.path}")


def load(options: Training, networks: Sequence[str] = ("",)) -> Dataset:
    """The pictures that the options ask for, once the options are known to make sense and all processes are there.

    Args:
      options: the options.
      networks: as for `to_resume`.
    """
    expect_counts(options, "batch_size", "epochs", "checkpoint_every", "chunk")
    expect_counts(options, "shift", "cutout", "seed", least=0)
    rate, smoothing = options.learning_rate, options.label_smoothing
    expect("learning_rate", rate, 0 <= rate < math.inf, "a finite number that is not negative")
    expect("label_smoothing", smoothing, 0 <= smoothing < 1, "a number from 0 to below 1")
    expect("l2", options.l2, 0 <= options.l2 < math.inf, "a finite number that is not negative")
    expect_decay(options)
    if options.resume is not None:
        to_resume(options.resume, networks)  # a folder that is not there is told before anything is loaded
    if options.tensorboard:
        need_tensorboardx()
    join(options, options.batch_size)
    with as_typed(data_dir="--data-dir"):
        return data.load(options.data, options.data_dir)


class Decaying(Protocol):
    """Options of an optimiser that can decay weights."""

    optimizer: Literal["adam", "adamw", "sgd"]
    weight_decay: float


def expect_decay(options: Decaying) -> None:
    """Raises where the weights cannot decay as the options say."""
    decay = options.weight_decay
    expect("weight_decay", decay, 0 <= decay < math.inf, "a finite number that is not negative")
    advice = "0 for --optimizer adam; --optimizer adamw decays weights, and --l2 penalises them"
    expect("weight_decay", decay, not decay or options.optimizer != "adam", advice)


def introduce(model: nnx.Module, pictures: Dataset) -> int:
    """Says what is about to be trained, on what; returns the number of parameters."""
    parameters = sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    print(
        f"{type(model).__name__} with {parameters:,} parameters on {pictures.name}: {len(pictures.train.labels):,} "
        f"pictures to train on, {len(pictures.test.labels):,} held out; {jax.devices()[0].device_kind}"
    )
    return parameters


def recipe_of(options: Training, pictures: Dataset) -> Recipe:
    """The optimiser, loss, penalty and preprocessing that the options ask for; raises where they do not fit."""
    height, width = pictures.train.images.shape[1:3]
    side = min(height, width)
    expect("shift", options.shift, options.shift < side, f"less than {side} pixels, for pictures of {height}x{width}")
    expect("cutout", options.cutout, options.cutout <= side, f"{side} pixels at most, for pictures of {height}x{width}")
    tx = train.optimizer(
        options.optimizer,
        options.learning_rate,
        steps=steps_of(options.epochs, len(pictures.train.labels), options.batch_size),
        schedule=options.schedule,
        weight_decay=options.weight_decay,
    )
    mean, std = colours(pictures.train.images) if options.normalize else (0.0, 1.0)
    preprocess = train.image_preprocess(mean=mean, std=std, augmentation=augmentation(options))
    penalty = train.l2(options.l2) if options.l2 else None
    return Recipe(tx, train.classification_loss(options.label_smoothing), penalty, preprocess)


def foretell(options: Training, recipe: Recipe, pictures: Dataset, model: nnx.Module) -> None:
    """Says what `learn` would cost."""
    dry_run.tell(
        lambda: create_state(options, model, recipe.tx),
        train.make_step(recipe.loss_fn, penalty=recipe.penalty, preprocess=recipe.preprocess),
        pictures,
        epochs=options.epochs,
        batch_size=options.batch_size,
        chunk=options.chunk,
        parallel=chosen(options, options.batch_size),
        resume=options.resume,
    )


def create_state(options: Training, model: nnx.Module, tx: optax.GradientTransformation) -> train.TrainState:
    """The state before the first step, with the loss scale that the precision needs."""
    scale = train.precision(options.precision).loss_scale
    return train.create_state(model, tx, jax.random.key(options.seed), loss_scale=scale)


@distributed.tell_of_lost_processes()
def learn(
    options: Training,
    recipe: Recipe,
    pictures: Dataset,
    model: nnx.Module,
    *,
    checkpoints: Path,
    adapt: Callable[[optax.GradientTransformation], optax.GradientTransformation] | None = None,
    run: train.RunFolder | None = None,
) -> Learned:
    """Trains a model by the recipe, from the checkpoints if there are any.

    Args:
      options: the options.
      recipe: what they come to.
      pictures: the data.
      model: the network as it starts.
      checkpoints: the folder for those of this network alone.
      adapt: may change the optimiser, to freeze a part for instance.
      run: where to write metrics and curves.
    """
    tx = recipe.tx if adapt is None else adapt(recipe.tx)
    parallel = chosen(options, options.batch_size)
    state = create_state(options, model, tx)
    with board_of(options, run) as board:
        state, history = train.fit(
            state,
            pictures.train,
            recipe.loss_fn,
            test_data=pictures.test,
            epochs=options.epochs,
            batch_size=options.batch_size,
            penalty=recipe.penalty,
            preprocess=recipe.preprocess,
            run=run,
            checkpoints=checkpoints_of(options, checkpoints),
            chunk=options.chunk,
            profile=run / "profile" if run is not None and options.profile else None,
            sinks=[board] if board else [],
            parallel=parallel,
        )
    seconds = sum(record["seconds"] for record in history)  # of a run that was stopped, those before it too
    if parallel is not None:
        state = parallel.everywhere(state)  # drawing and predicting are small work, for each device by itself
    logits = train.predict(state, pictures.test, lambda model, batch: model(batch.images), preprocess=recipe.preprocess)
    predicted = np.asarray(logits).argmax(-1)
    return Learned(state, history, predicted, float((predicted == pictures.test.labels).mean()), seconds)


def board_of(options: Training, run: train.RunFolder | None) -> AbstractContextManager[train.run.TensorBoard | None]:
    """What writes for TensorBoard, if that is asked for."""
    return train.run.TensorBoard(run) if run is not None and options.tensorboard else nullcontext()


def checkpoints_of(options: Training, folder: Path) -> train.Checkpoints:
    """Checkpoints in the folder that belong to these options."""
    return train.Checkpoints(
        folder,
        resume=options.resume is not None,
        every=options.checkpoint_every,
        best="test_accuracy",
        config=kept(options, FREE),
    )


def colours(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8 pictures, in units of 0 to 1; at least one step of 255."""
    return images.mean((0, 1, 2)) / 255, np.maximum(images.std((0, 1, 2)), 1) / 255


def augmentation(options: Training) -> augment.Augmentation | None:
    """What the options ask to be done to training pictures, or None."""
    chosen: list[augment.Augmentation] = []
    if options.flip:
        chosen.append(augment.random_flip)
    if options.shift:
        chosen.append(lambda key, images: augment.random_shift(key, images, options.shift))
    if options.cutout:
        chosen.append(lambda key, images: augment.cutout(key, images, options.cutout))
    return augment.compose(*chosen) if chosen else None


def draw(run: train.RunFolder, state: train.TrainState, pictures: Dataset, predicted: np.ndarray) -> None:
    """Confusion matrix, first filters, and predictions: every second one wrong, while there are wrong ones."""
    test = pictures.test
    plots.confusion(test.labels, predicted, run / "confusion.png", pictures.classes)
    first = next((p for p in jax.tree.leaves(state.params) if p.ndim == 4), None)
    if first is not None:
        plots.filters(first, run / "filters.png")
    wrong = np.flatnonzero(predicted != test.labels)[:16]
    right = np.flatnonzero(predicted == test.labels)[: 32 - len(wrong)]
    shown = np.concatenate([wrong, right])
    accuracy, path = float(np.mean(predicted == test.labels)), run / "predictions.png"
    title = (
        f"{len(right)} right and {len(wrong)} wrong, chosen from {len(test.labels):,} test pictures "
        f"(accuracy {accuracy:.2%}); wrong ones in red, with the true class"
    )
    plots.predictions(test.images[shown], test.labels[shown], predicted[shown], path, pictures.classes, title=title)
