"""Detects digits in scenes with a fully convolutional network, compared with connected components.

    python -m experiments.detect
    python -m experiments.detect --resume runs/detect
    python -m experiments.detect --data-dir FOLDER --side 128

The scenes are made of scikit-learn's real digits on the device, new ones in every step; digits of the test set are in
held-out scenes only. The network predicts a heat map of centres for each class, and size and offset of each box; the
peaks give the boxes. The baseline thresholds the picture and gives each connected component the class of its nearest
training digit. `--data-dir` trains on pictures with boxes in COCO's format and holds out a fifth of them.

Writes config.json, result.json, metrics.jsonl, curves.png and detections.png.

References:
    Zhou, Wang and Krähenbühl, Objects as Points, 2019. Law and Deng, CornerNet, 2018 (the focal loss of the heat map).
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import optax
from flax import nnx

from experiments.data.components import Components
from experiments.data.scenes import scenes
from jaxnn import cli, data, metrics, models, plots, train
from jaxnn import functional as F
from jaxnn.data import Boxed

LOSS = train.losses.detection(size_weight=0.3)
"""Digits are only a few cells wide, so errors of size weigh more than in large pictures."""
PREPROCESS = train.image_preprocess()
TOP = 50
"""Boxes that are decoded per picture."""
SHOWN = 8
"""Held-out pictures that are drawn: those with the most boxes."""


@dataclasses.dataclass(frozen=True)
class Options(cli.Cosine):
    """Options of the detector."""

    data_dir: Path | None = None
    """A folder of pictures and one JSON file of boxes in COCO's format, to train on those."""
    side: Annotated[int, cli.Bound("a multiple of 4, 32 to 2048", lambda n: n % 4 == 0 and 32 <= n <= 2048)] = 64
    """Side of a scene in pixels, a multiple of 4; pictures of --data-dir are scaled to fit into it."""
    digits: Annotated[cli.Count, cli.Bound("at most 100", lambda n: n <= 100)] = 8
    """Largest number of digits in a scene."""
    tests: cli.Count = 256
    """Held-out scenes to test on."""
    steps: cli.Count = 50
    """Training steps per epoch, each on new scenes. With --data-dir an epoch reads all pictures once."""
    epochs: cli.Count = 24
    batch_size: cli.Count = 16
    width: cli.Count = 16
    """Channels of the first convolution; the later ones have twice and four times as many."""
    blocks: cli.Natural = 4
    """Residual convolutions."""
    learning_rate: cli.Number = 2e-3
    weight_decay: cli.Number = 1e-4
    """Decoupled weight decay of the weights."""
    score: cli.Share = 0.3
    """Smallest score of a box that is drawn."""
    run: Path = Path("runs/detect")


def main(options: Options) -> None:
    """Trains, evaluates on held-out pictures, and draws some of them."""
    cli.check_run(options)
    if options.data_dir is not None:
        cli.unused(options, "digits", "tests", "steps", because="with --data-dir, whose pictures are read whole")
    cli.steps_of(options.epochs, options.steps, 1)
    training, steps, test, classes, about = (
        of_folder(options, options.data_dir) if options.data_dir else of_digits(options)
    )
    sizes = {"width": options.width, "blocks": options.blocks}
    model = models.Detector(test.images.shape[-1], len(classes), **sizes, rngs=nnx.Rngs(options.seed))
    decay = {"weight_decay": options.weight_decay, "clip_norm": 10.0}
    tx = train.optimizer("adamw", options.learning_rate, steps=options.epochs * steps, schedule="cosine", **decay)
    create = partial(train.create_state, model, tx, jax.random.key(options.seed))
    work: dict[str, Any] = {"data": training, "loss_fn": LOSS, "test_data": test, "preprocess": PREPROCESS}
    work |= {"epochs": options.epochs, "batch_size": options.batch_size}
    if options.dry_run:
        cli.dry_run(options, create, **work)
        return
    folder = cli.folder_of(options)
    parameters = optax.tree.size(nnx.state(model, nnx.Param))
    print(f"Detector with {parameters:,} parameters on {about}; {jax.devices()[0].device_kind}")
    state, history = train.fit(create(), **work, **cli.keeping(options, folder, free=("score",)))
    seconds = sum(record["seconds"] for record in history)

    def detect(model: models.Detector, batch: Boxed) -> F.Detections:
        return F.decode_boxes(model(batch.images), stride=model.stride, top=TOP)

    found = jax.tree.map(np.asarray, train.predict(state, test, detect, preprocess=PREPROCESS))
    ways: dict[str, Any] = {"network": found}
    if options.data_dir is None:
        digits = data.load_digits().train
        ways["components"] = Components(digits, held_out(options, digits, 0, 128)).find(test.images)
    result: dict[str, Any] = {"seconds": seconds, "parameters": parameters, "epochs": len(history)}
    for name, (boxes, scores, guesses) in ways.items():
        truth = test.boxes, test.classes
        reached = metrics.mean_average_precision(boxes, scores, guesses, *truth, crowd=test.crowd)
        of_class = {classes[number]: value for number, value in reached.by_class.items()}
        at_half = float(reached.by_threshold[0])
        result[name] = {"map_50": at_half, "map": reached.mean, "map_by_class": of_class}
        print(f"{name:>10}: mean average precision {at_half:.3f} at 0.5, {reached.mean:.3f} at 0.5:0.95")
    folder.write_json("result.json", result)

    fullest = np.argsort(-(test.classes >= 0).sum(1), kind="stable")[:SHOWN]
    reached_half = f"mean average precision of all {result['network']['map_50']:.3f} at 0.5"
    plots.detections(
        test.images[fullest],
        tuple(each[fullest] for each in found),
        (test.boxes[fullest], test.classes[fullest]),
        folder / "detections.png",
        classes,
        score=options.score,
        title=f"the fullest of {len(test.images):,} held-out pictures; {reached_half}",
    )
    print(f"after {seconds:.0f} s; pictures and numbers are in {folder.path}")


def of_digits(options: Options) -> tuple[Any, int, Boxed, tuple[str, ...], str]:
    """Returns training scenes, steps per epoch, held-out scenes of other digits, classes and a description."""
    digits = data.load_digits()
    draw = partial(scenes, side=options.side, most=options.digits)
    training = train.Generated(lambda key: draw(key, digits.train, options.batch_size), options.steps)
    about = f"new scenes of {len(digits.train.labels):,} digits in each step; {options.tests:,} scenes of "
    about += f"{len(digits.test.labels)} other digits held out"
    return training, options.steps, held_out(options, digits.test, 1, options.tests), digits.classes, about


def held_out(options: Options, digits: data.Examples, number: int, count: int) -> Boxed:
    """Draws scenes that are the same in every run."""
    draw = jax.jit(partial(scenes, side=options.side, most=options.digits), static_argnums=2)
    made: Boxed = jax.tree.map(np.asarray, draw(jax.random.fold_in(jax.random.key(0), number), digits, count))
    return made


def of_folder(options: Options, folder: Path) -> tuple[Any, int, Boxed, tuple[str, ...], str]:
    """Like `of_digits`, for the pictures of a folder: a random fifth of them is held out."""
    try:
        name, examples, classes = data.load_coco(folder, options.side)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"--data-dir: {error}") from None
    count = len(examples.images)
    cli.expect("data_dir", f"{count} in {folder}", count >= 2, "at least 2 pictures, of which one is held out")
    order, held = np.random.default_rng(0).permutation(count), max(1, count // 5)
    test, learned = (Boxed(*(each[np.sort(part)] for each in examples)) for part in np.split(order, [held]))
    steps = cli.steps_of(options.epochs, count - held, options.batch_size) // options.epochs
    return learned, steps, test, classes, f"{count - held:,} pictures of {name}, {held:,} held out"


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
