"""Finds and names digits in scenes: a fully convolutional network without anchors, beside connected components.

    python -m experiments.detect
    python -m experiments.detect --resume runs/detect
    python -m experiments.detect --data-dir FOLDER --side 128

The scenes are made of scikit-learn's real digits on the device, new ones in every step: several sizes, places and
overlaps, with strokes between them; digits of the test set are in held-out scenes only. The network predicts a heat
map of centres for each class, and size and offset of each box; boxes are read off the peaks. The baseline thresholds
the picture, takes what hangs together, and names it by its nearest training digit.

`--data-dir` takes a folder of pictures with one JSON file of boxes in COCO's format; a fifth of them is held out.

Leaves config.json, result.json, metrics.jsonl, curves.png and detections.png: held-out scenes with boxes, names and
scores, where what is missed is marked. Precision is the mean average precision of COCO.

References:
    Zhou, Wang and Krähenbühl, Objects as Points, 2019. Law and Deng, CornerNet, 2018 (the focal loss of the heat map).
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from experiments.data.components import Components, Found
from experiments.data.scenes import scenes
from jaxnn import cli, data, metrics, models, plots, train
from jaxnn import functional as F
from jaxnn.data import Boxed

LOSS = train.losses.detection(size_weight=0.3)
"""Digits are a few cells wide: errors of size count more than in pictures that are hundreds of pixels wide."""
PREPROCESS = train.image_preprocess()
TOP = 50
"""Boxes that are read off each picture."""
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
    """Most digits in a scene."""
    tests: cli.Count = 256
    """Held-out scenes to judge by."""
    steps: cli.Count = 50
    """Training steps of an epoch; scenes are new in each. With --data-dir, an epoch reads all pictures once."""
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
    """The least score of a box that is drawn."""
    run: Path = Path("runs/detect")


class Work(NamedTuple):
    """The pictures to learn from and to be judged by.

    Attributes:
        training: Batches for `train.fit`.
        steps: Training steps of an epoch.
        test: The held-out pictures.
        classes: Names of the classes.
        baseline: `() -> found`, what the baseline finds in the held-out pictures; None where there is none.
        about: What it is, in words.
    """

    training: Any
    steps: int
    test: Boxed
    classes: tuple[str, ...]
    baseline: Callable[[], Found] | None
    about: str


def main(options: Options) -> None:
    """Trains, judges on held-out pictures, and draws some of them."""
    cli.check_run(options)
    cli.steps_of(options.epochs, options.steps, 1)
    work = of_digits(options) if options.data_dir is None else of_folder(options, options.data_dir)
    model = models.Detector(
        work.test.images.shape[-1],
        len(work.classes),
        width=options.width,
        blocks=options.blocks,
        rngs=nnx.Rngs(options.seed),
    )
    tx = train.optimizer(
        "adamw",
        options.learning_rate,
        steps=options.epochs * work.steps,
        schedule="cosine",
        weight_decay=options.weight_decay,
        clip_norm=10.0,
    )
    create = partial(train.create_state, model, tx, jax.random.key(options.seed))
    arguments: dict[str, Any] = {
        "data": work.training,
        "loss_fn": LOSS,
        "test_data": work.test,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "preprocess": PREPROCESS,
    }
    if options.dry_run:
        cli.dry_run(options, create, **arguments)
        return
    folder = cli.folder_of(options)
    parameters = optax.tree.size(nnx.state(model, nnx.Param))
    print(f"Detector with {parameters:,} parameters on {work.about}; {jax.devices()[0].device_kind}")
    began = time.perf_counter()
    state, history = train.fit(create(), **arguments, **cli.keeping(options, folder, free=("score",)))
    seconds = time.perf_counter() - began
    found: Any = jax.tree.map(np.asarray, train.predict(state, work.test, detect, preprocess=PREPROCESS))

    result: dict[str, Any] = {"seconds": seconds, "parameters": parameters, "epochs": len(history)}
    ways: dict[str, Any] = {"network": found} | ({} if work.baseline is None else {"components": work.baseline()})
    for name, each in ways.items():
        reached = metrics.mean_average_precision(
            each.boxes, each.scores, each.classes, work.test.boxes, work.test.classes, crowd=work.test.crowd
        )
        of_class = {work.classes[number]: value for number, value in reached.by_class.items()}
        at_half, mean = float(reached.by_threshold[0]), reached.mean
        result[name] = {"map_50": at_half, "map": mean, "map_by_class": of_class}
        print(f"{name:>10}: mean average precision {at_half:.3f} at 0.5, {mean:.3f} at 0.5:0.95")
    fullest = np.argsort(-(work.test.classes >= 0).sum(1), kind="stable")[:SHOWN]
    plots.detections(
        work.test.images[fullest],
        (found.boxes[fullest], found.scores[fullest], found.classes[fullest]),
        (work.test.boxes[fullest], work.test.classes[fullest]),
        folder / "detections.png",
        work.classes,
        score=options.score,
        title=f"the fullest of {len(work.test.images):,} held-out pictures; mean average precision of all "
        f"{result['network']['map_50']:.3f} at 0.5",
    )
    folder.write_json("result.json", result)
    print(f"after {seconds:.0f} s; pictures and numbers are in {folder.path}")


def detect(model: models.Detector, batch: Boxed) -> F.Detections:
    """The best boxes of each picture."""
    return F.decode_boxes(model(batch.images), stride=model.stride, top=TOP)


def of_digits(options: Options) -> Work:
    """Scenes of digits: new ones in each step, and held-out ones of the digits that are in no training scene."""
    digits = data.load_digits()
    draw = partial(scenes, side=options.side, most=options.digits)
    make = jax.jit(draw, static_argnums=2)

    def held_out(examples: data.Examples, key: int, count: int) -> Boxed:
        made: Boxed = jax.tree.map(np.asarray, make(jax.random.fold_in(jax.random.key(0), key), examples, count))
        return made

    test = held_out(digits.test, 1, options.tests)
    return Work(
        train.Generated(lambda key: draw(key, digits.train, options.batch_size), options.steps),
        options.steps,
        test,
        digits.classes,
        lambda: Components(digits.train, held_out(digits.train, 0, 128)).find(test.images),
        f"new scenes of {len(digits.train.labels):,} digits in each step; {options.tests:,} scenes of "
        f"{len(digits.test.labels)} other digits held out",
    )


def of_folder(options: Options, folder: Path) -> Work:
    """The pictures in a folder, of which every fifth, in an order by chance, is held out."""
    try:
        name, examples, classes = data.load_coco(folder, options.side)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"--data-dir: {error}") from None
    count = len(examples.images)
    cli.expect("data_dir", f"{count} in {folder}", count >= 2, "at least 2 pictures, of which one is held out")
    order = np.random.default_rng(0).permutation(count)
    held = max(1, count // 5)
    learned, test = (jax.tree.map(lambda a: a[np.sort(part)], examples) for part in (order[held:], order[:held]))  # noqa: B023
    steps = cli.steps_of(options.epochs, count - held, options.batch_size) // options.epochs
    about = f"{count - held:,} pictures of {name}, {held:,} held out"
    return Work(learned, steps, test, classes, None, about)


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
