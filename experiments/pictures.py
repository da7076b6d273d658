"""Picture classification: the options that lenet5, cifar10, rows and sweep share, and training by them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
from flax import nnx

from jaxnn import cli, data, plots, train
from jaxnn.data import Dataset
from jaxnn.data.loading import Name
from jaxnn.train.devices import distributed
from jaxnn.train.run.tensorboard import need_tensorboardx
from jaxnn.train.step import augment

FREE = ("resize",)
"""Options that a resumed run may change, as it may change `data_dir`: they say how data are read."""


@dataclasses.dataclass(frozen=True)
class Pictures(cli.Epochs):
    """Data and recipe, without a learning rate; each experiment sets its own defaults."""

    data: Name = "digits"
    """Digits of scikit-learn, a published set, files in MNIST's format (idx), or a folder of sub-folders by class."""
    data_dir: Path | None = None
    """A folder with a copy of the data, for example torchvision's; by default a copy is found or downloaded."""
    resize: cli.Count = 32
    """Side in pixels to which pictures of --data folder are scaled and cropped."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Adam, AdamW (with --weight-decay), or SGD with Nesterov momentum 0.9."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """Schedule of the learning rate: constant, cosine with warm-up, or one-cycle."""
    weight_decay: cli.Number = 0.0
    """Decoupled weight decay of the weights, for adamw and sgd."""
    l2: cli.Number = 0.0
    """Scale of the L2 penalty of the weights, added to the loss."""
    label_smoothing: cli.Share = 0.0
    """Fraction of each label's probability that is distributed over all classes."""
    normalize: bool = False
    """Normalise each channel to mean 0 and variance 1 over the training pictures, after scaling to 0 to 1."""
    flip: bool = False
    """Mirror each training picture left to right with probability 1/2."""
    shift: cli.Natural = 0
    """Shift each training picture by up to this many pixels; its border is reflected."""
    cutout: cli.Natural = 0
    """Blank a square of this side in each training picture."""


@dataclasses.dataclass(frozen=True)
class Training(cli.Devices, Pictures):
    """How to train one network at a time."""

    learning_rate: cli.Number = 1e-3
    """The highest learning rate of the schedule."""
    precision: Literal["float32", "bf16", "float16"] = "float32"
    """The dtype that layers compute in; parameters stay float32, and float16 uses a dynamic loss scale."""
    chunk: cli.Count | None = None
    """Steps per compiled program, so that long epochs are saved every minute; by default an epoch is one program."""
    tensorboard: bool = False
    """Also write the metrics for TensorBoard, to tensorboard/ in the run folder."""


def load(options: Pictures, networks: Sequence[str] = ("",)) -> Dataset:
    """Checks the options and loads the pictures; `networks` names the checkpoints of a run to resume."""
    cli.check_run(options, networks)
    advice = "0 for --optimizer adam; --optimizer adamw decays weights, and --l2 penalises them"
    if options.data != "folder":
        cli.unused(options, "resize", because="without --data folder; other pictures have their size")
    cli.expect("weight_decay", options.weight_decay, not options.weight_decay or options.optimizer != "adam", advice)
    if isinstance(options, Training):
        if options.tensorboard:
            need_tensorboardx()
        cli.join(options)
    with cli.as_typed(data_dir="--data-dir"):
        dataset = data.load(options.data, options.data_dir, side=options.resize)
    height, width = dataset.train.images.shape[1:3]
    side, of = min(height, width), f"for pictures of {height}x{width}"
    cli.expect("shift", options.shift, options.shift < side, f"less than {side} pixels, {of}")
    cli.expect("cutout", options.cutout, options.cutout <= side, f"{side} pixels at most, {of}")
    return dataset


def optimizer_of(options: Pictures, dataset: Dataset, learning_rate: float) -> optax.GradientTransformation:
    steps = cli.steps_of(options.epochs, len(dataset.train.labels), options.batch_size)
    how: Any = {"schedule": options.schedule, "weight_decay": options.weight_decay}
    return train.optimizer(options.optimizer, learning_rate, steps=steps, **how)


def work_of(options: Pictures, dataset: Dataset) -> dict[str, Any]:
    """Arguments of `train.fit` and `train.ensemble.fit` besides the state: data, loss, penalty, preprocessing."""
    changes: list[augment.Augmentation] = [augment.random_flip] if options.flip else []
    if options.shift:
        changes.append(functools.partial(augment.random_shift, pixels=options.shift))
    if options.cutout:
        changes.append(functools.partial(augment.cutout, size=options.cutout))
    mean, std = data.channel_statistics(dataset.train.images) if options.normalize else (0.0, 1.0)
    augmentation = augment.compose(*changes) if changes else None
    work = {
        "data": dataset.train,
        "loss_fn": train.losses.classification(options.label_smoothing),
        "test_data": dataset.test,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "penalty": train.losses.l2(options.l2) if options.l2 else None,
        "preprocess": train.image_preprocess(mean=mean, std=std, augmentation=augmentation),
    }
    if isinstance(options, Training):
        work |= {"chunk": options.chunk, "parallel": cli.parallel_of(options, options.batch_size)}
    return work


def introduce(model: nnx.Module, dataset: Dataset) -> int:
    """Prints model, data and device; returns the number of parameters."""
    parameters = optax.tree.size(nnx.state(model, nnx.Param))
    print(
        f"{type(model).__name__} with {parameters:,} parameters on {dataset.name}: {len(dataset.train.labels):,} "
        f"pictures to train on, {len(dataset.test.labels):,} held out; {jax.devices()[0].device_kind}"
    )
    return parameters


def create_state(
    options: Training, model: nnx.Module, tx: optax.GradientTransformation, wrt: Any = None
) -> train.TrainState:
    """Creates the state, with the loss scale that the precision needs; `wrt` selects the parameters to train."""
    scale = train.precision(options.precision).loss_scale
    return train.create_state(model, tx, jax.random.key(options.seed), wrt=wrt, loss_scale=scale)


@distributed.tell_of_lost_processes()
def judge(state: train.TrainState, work: dict[str, Any]) -> tuple[train.TrainState, np.ndarray, float]:
    """Returns the state on each device, the predicted classes of the held-out pictures, and the accuracy."""
    if work["parallel"] is not None:
        state = work["parallel"].replicate(state)  # each device draws and predicts by itself
    test, preprocess = work["test_data"], work["preprocess"]
    logits = train.predict(state, test, lambda model, batch: model(batch.images), preprocess=preprocess)
    predicted = np.asarray(logits).argmax(-1)
    return state, predicted, float((predicted == test.labels).mean())


def leave(
    folder: train.RunFolder, state: train.TrainState, preprocess: Any, dataset: Dataset, predicted: np.ndarray
) -> None:
    """Writes confusion.png, predictions.png and model.jaxprogram, which `experiments.serve` reads."""
    test, classes = dataset.test, dataset.classes
    plots.confusion(test.labels, predicted, folder / "confusion.png", classes)
    plots.predictions(test.images, test.labels, predicted, folder / "predictions.png", classes, most=32)
    about = {"data": dataset.name, "classes": classes}
    train.export(state, test.images[:1], preprocess=preprocess, about=about).save(folder / "model.jaxprogram")


def learn(options: Training, network: Callable[..., nnx.Module], first: str) -> None:
    """Trains `network(shape, classes=, dtype=, param_dtype=, rngs=)` and draws the filters of its `first` layer."""
    dataset = load(options)
    sizes = {"classes": len(dataset.classes), **train.precision(options.precision)}
    model = network(dataset.train.images.shape[1:], **sizes, rngs=nnx.Rngs(options.seed))
    parameters = introduce(model, dataset)
    work = work_of(options, dataset)
    tx = optimizer_of(options, dataset, options.learning_rate)
    create = functools.partial(create_state, options, model, tx)
    if options.dry_run:
        cli.dry_run(options, create, **work)
        return
    folder = cli.folder_of(options)
    state, history = train.fit(create(), **work, **cli.keeping(options, folder, best="test_accuracy", free=FREE))
    state, predicted, accuracy = judge(state, work)
    if distributed.is_first():
        plots.filters(state.params[first]["kernel"], folder / "filters.png")
        leave(folder, state, work["preprocess"], dataset, predicted)
        seconds = sum(record["seconds"] for record in history)
        result = {"test_accuracy": accuracy, "seconds": seconds, "parameters": parameters, "epochs": len(history)}
        folder.write_json("result.json", result)
        print(f"test accuracy {accuracy:.2%} after {seconds:.0f} s; pictures and metrics are in {folder.path}")
