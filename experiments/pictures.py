"""Learning to classify pictures: the options of lenet5, cifar10, rows and sweep, and what they mean for training."""

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
"""Options that a resumed run may change too: they belong to where the data lie, as `data_dir`."""


@dataclasses.dataclass(frozen=True)
class Pictures(cli.Epochs):
    """The pictures, and how to learn from them at whatever learning rate; every experiment sets its own defaults."""

    data: Name = "digits"
    """The digits of scikit-learn, a published set, files in MNIST's format (idx), or your own (folder: one a class)."""
    data_dir: Path | None = None
    """A folder with a copy of the data, for example torchvision's; without, they are found or downloaded."""
    resize: cli.Count = 32
    """Side of the squares that pictures of --data folder become."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Adam, AdamW (with --weight-decay), or SGD with Nesterov momentum 0.9."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """How the learning rate goes: constant, warm-up and cosine, or one-cycle."""
    weight_decay: cli.Number = 0.0
    """Decoupled weight decay of the weights, for adamw and sgd."""
    l2: cli.Number = 0.0
    """Scale of the L2 penalty of the weights, added to the loss."""
    label_smoothing: cli.Share = 0.0
    """Share of each label that is spread over all classes."""
    normalize: bool = False
    """Bring each colour to mean zero and variance one over the training pictures, besides scaling to 0 to 1."""
    flip: bool = False
    """Mirror each training picture left to right, by a coin's throw."""
    shift: cli.Natural = 0
    """Shift each training picture by up to this many pixels, its border reflected."""
    cutout: cli.Natural = 0
    """Blank a square of this side in each training picture."""


@dataclasses.dataclass(frozen=True)
class Training(Pictures, cli.Devices):
    """How to train one network at a time."""

    learning_rate: cli.Number = 1e-3
    """The highest learning rate of the run."""
    precision: Literal["float32", "bf16", "float16"] = "float32"
    """The dtype that layers compute in; parameters are float32, and float16 has a loss scale that adjusts itself."""
    chunk: cli.Count | None = None
    """Steps a compiled program, to save every minute inside of long epochs; by default an epoch is one program."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, to tensorboard/ in the run folder."""


def load(options: Pictures, networks: Sequence[str] = ("",)) -> Dataset:
    """The pictures, once the options are known to make sense; `networks` are those of a run to resume."""
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
    """Arguments of `train.fit` and `train.ensemble.fit` beside the state: data, loss, penalty, preprocessing."""
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
    """Says what is about to be trained, on what; returns the number of parameters."""
    parameters = optax.tree.size(nnx.state(model, nnx.Param))
    print(
        f"{type(model).__name__} with {parameters:,} parameters on {dataset.name}: {len(dataset.train.labels):,} "
        f"pictures to train on, {len(dataset.test.labels):,} held out; {jax.devices()[0].device_kind}"
    )
    return parameters


def create_state(
    options: Training, model: nnx.Module, tx: optax.GradientTransformation, wrt: Any = None
) -> train.TrainState:
    """The state before the first step, with the loss scale that the precision needs; `wrt` is what is trained."""
    scale = train.precision(options.precision).loss_scale
    return train.create_state(model, tx, jax.random.key(options.seed), wrt=wrt, loss_scale=scale)


@distributed.tell_of_lost_processes()
def judge(state: train.TrainState, work: dict[str, Any]) -> tuple[train.TrainState, np.ndarray, float]:
    """The state on each device, the classes that it gives the held-out pictures, and the share that is right."""
    if work["parallel"] is not None:
        state = work["parallel"].everywhere(state)  # each device draws and predicts by itself
    test, preprocess = work["test_data"], work["preprocess"]
    logits = train.predict(state, test, lambda model, batch: model(batch.images), preprocess=preprocess)
    predicted = np.asarray(logits).argmax(-1)
    return state, predicted, float((predicted == test.labels).mean())


def leave(
    folder: train.RunFolder, state: train.TrainState, preprocess: Any, dataset: Dataset, predicted: np.ndarray
) -> None:
    """Leaves confusion.png, predictions.png, and model.jaxprogram, which `experiments.serve` reads."""
    test, classes = dataset.test, dataset.classes
    plots.confusion(test.labels, predicted, folder / "confusion.png", classes)
    plots.predictions(test.images, test.labels, predicted, folder / "predictions.png", classes, most=32)
    about = {"data": dataset.name, "classes": classes}
    train.export(state, test.images[:1], preprocess=preprocess, about=about).save(folder / "model.jaxprogram")


def learn(options: Training, network: Callable[..., nnx.Module], first: str) -> None:
    """Trains `network(shape, classes=, dtype=, param_dtype=, rngs=)`; the filters of its `first` layer are drawn."""
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
