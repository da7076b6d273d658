"""Training a network to classify pictures, from options to a run folder: what lenet5 and cifar10 share."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from flax import nnx

from jaxnn import data, train
from jaxnn.data import Dataset
from jaxnn.train import augment, plots


@dataclasses.dataclass
class Training:
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
    flip: bool = False
    """Mirror each training picture left to right, by a coin's throw."""
    shift: int = 0
    """Shift each training picture by up to this many pixels, its border reflected."""
    cutout: int = 0
    """Blank a square of this side in each training picture."""
    seed: int = 0
    """Everything random follows from it."""
    run: Path = Path("runs/experiment")
    """The run folder; a number is added where it exists, nothing is overwritten."""


def classify(options: Training, network: Callable[[Dataset, nnx.Rngs], nnx.Module]) -> None:
    """Loads the data, trains, and leaves config, metrics, model pictures and the test accuracy in a run folder."""
    pictures = data.load(options.data, options.data_dir)
    steps = options.epochs * -(-len(pictures.train.labels) // check_positive("batch_size", options.batch_size))
    tx = train.optimizer(
        options.optimizer,
        options.learning_rate,
        steps=check_positive("epochs", options.epochs) and steps,
        schedule=options.schedule,
        weight_decay=options.weight_decay,
    )
    model = network(pictures, nnx.Rngs(options.seed))
    state = train.create_state(model, tx, jax.random.key(options.seed))
    loss_fn = train.classification_loss(options.label_smoothing)
    preprocess = train.image_preprocess(
        mean=pictures.train.images.mean((0, 1, 2)) / 255,
        std=np.maximum(pictures.train.images.std((0, 1, 2)), 1) / 255,
        augmentation=augmentation(options),
    )
    # What does not fit the pictures is told now, before there is a run folder.
    some = jax.tree.map(lambda array: array[:2], pictures.train)
    jax.eval_shape(preprocess, jax.random.key(0), some)

    run = train.RunFolder.create(options.run, dataclasses.asdict(options))
    parameters = sum(p.size for p in jax.tree.leaves(state.params))
    print(
        f"{type(model).__name__} with {parameters:,} parameters on {pictures.name}: {len(pictures.train.labels):,} "
        f"pictures to train on, {len(pictures.test.labels):,} held out; {jax.devices()[0].device_kind}"
    )
    started = time.perf_counter()
    state, history = train.fit(
        state,
        pictures.train,
        loss_fn,
        test_data=pictures.test,
        epochs=options.epochs,
        batch_size=options.batch_size,
        penalty=train.l2(options.l2) if options.l2 else None,
        preprocess=preprocess,
        run=run,
    )
    seconds = time.perf_counter() - started

    logits = train.predict(state, pictures.test, lambda model, batch: model(batch.images), preprocess=preprocess)
    predicted = np.asarray(logits).argmax(-1)
    accuracy = float((predicted == pictures.test.labels).mean())
    draw(run, state, pictures, predicted)
    result = {"test_accuracy": accuracy, "seconds": seconds, "parameters": parameters, "epochs": len(history)}
    with train.runfolder.replacing(run / "result.json") as beside:
        beside.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"test accuracy {accuracy:.2%} after {seconds:.0f} s; pictures and metrics are in {run.path}")


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
    plots.predictions(
        test.images[shown], test.labels[shown], predicted[shown], run / "predictions.png", pictures.classes
    )


def check_positive(name: str, value: int) -> int:
    """The value, or a ValueError that names its option."""
    if value < 1:
        raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    return value
