"""Finds a learning rate: all combinations of seeds and learning rates trained as one compiled program.

    python -m experiments.sweep
    python -m experiments.sweep --model cifar10 --seeds 16 --learning-rates 1e-4,3e-4,1e-3
    python -m experiments.sweep --model cifar10 --data cifar10 --epochs 10 --batch-size 128     # for a GPU
    python -m experiments.sweep --resume runs/sweep           # resumes one that was stopped or killed

A part of the training pictures is held back to choose by: settings by the mean validation accuracy of their runs,
those with fewest that diverged first. The test pictures are for the verdict alone: on the best run, and on the ensemble
of all runs of the best setting, whose prediction is the mean of their probabilities.

Leaves config.json, checkpoints/, metrics.jsonl (a line an epoch, a number a run), result.json, sweep.png (validation
accuracy over the epochs), learning_rates.png, reliability.png (calibration of the ensemble and of its members) and
best.safetensors, the best run as an ordinary model; `experiments.sweep.load_best` reads it.
"""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import cifar10, pictures
from jaxnn import cli, data, inspect, interop, models, plots, train
from jaxnn.inspect.calibration import Reliability, Scores
from jaxnn.inspect.summary import aligned
from jaxnn.train.run import History


@dataclasses.dataclass(frozen=True)
class Options(pictures.Pictures):
    """Options of the sweep."""

    model: Literal["lenet5", "cifar10"] = "lenet5"
    """The tutorial's LeNet, or its CIFAR-10 network."""
    seeds: cli.Count = 8
    """Runs of each learning rate, of different initialisation and shuffling."""
    learning_rates: tuple[str, ...] = ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2")
    """The learning rates to try, with commas or spaces between."""
    validation: float = 0.2
    """Share of the training pictures that is held back to choose by."""
    at_once: cli.Count | None = None
    """Runs that a device trains at once; by default as many as are good for it and fit its memory."""
    seed: cli.Natural = 0
    """The first of the seeds."""
    epochs: cli.Count = 15
    batch_size: cli.Count = 32
    normalize: bool = True
    run: Path = Path("runs/sweep")


def main(options: Options) -> None:
    """Trains all combinations, chooses, and judges the best run and the ensemble."""
    cli.check(options)
    rates = learning_rates(options.learning_rates)
    last = cli.MOST + 1 - options.seeds
    cli.expect("seed", options.seed, 0 <= options.seed <= last, f"a whole number from 0 to {last}")
    dataset = pictures.load(options)
    with cli.as_typed(share="--validation"):
        learned, validation = data.split(dataset.train, options.validation)
    dataset = dataset._replace(train=learned)
    work = pictures.work_of(options, dataset) | {"test_data": validation}
    tx = pictures.optimizer_of(options, dataset, max(rates))
    about = {"model": options.model, "picture": learned.images.shape[1:], "classes": len(dataset.classes)}
    pictures.introduce(build(about), dataset)
    print(f"to choose by: {len(validation.labels)} training pictures held back; below, they are what is tested on")

    table = train.ensemble.grid(learning_rate=rates, seed=range(options.seed, options.seed + options.seeds))

    def create() -> train.TrainState:
        return train.ensemble.create(lambda key: build(about, key), tx, table)

    if options.dry_run:
        print(f"one of {len(table['seed'])} networks, which are trained together:")
        cli.dry_run(options, lambda: train.ensemble.member(create(), 0), **work)
        return
    folder = cli.folder_of(options)
    started = time.perf_counter()
    kept = cli.keeping(options, folder, free=pictures.FREE)
    states, histories = train.ensemble.fit(create(), **work, **kept, members_per_chunk=options.at_once)
    seconds = time.perf_counter() - started
    settings = train.ensemble.settings(table["learning_rate"], histories)
    chosen = max(settings, key=lambda each: each.rank)
    # The best run of the chosen setting: a lucky one of a bad setting would not be lucky again.
    best = chosen.best
    every = np.asarray(
        train.ensemble.predict(
            states,
            dataset.test,
            lambda model, batch: jax.nn.softmax(model(batch.images).astype(jnp.float32)),
            preprocess=work["preprocess"],
            members_per_chunk=options.at_once,
        )
    )
    truth = dataset.test.labels
    scores = [inspect.scores(each, truth) if np.isfinite(each).all() else None for each in every]

    interop.save_weights(folder / "best.safetensors", train.ensemble.member(states, best).model(), about=about)
    print(settings_table(settings, scores))
    together = every[chosen.whole].mean(0)
    judged = [score for i in chosen.whole if (score := scores[i]) is not None]
    print(scores_table(judged, inspect.scores(together, truth), scores[best]))
    draw(folder, settings, histories, truth, every[chosen.whole], together)
    result = {
        "seconds": seconds,
        "learning_rate": chosen.value,
        "best_run": {"number": best, "seed": int(table["seed"][best])} | _told(scores[best]),
        "ensemble": {"members": len(chosen.whole)} | _told(inspect.scores(together, truth)),
        "runs": [
            {
                "learning_rate": float(table["learning_rate"][i]),
                "seed": int(table["seed"][i]),
                "diverged": train.ensemble.diverged(history),
                "epochs": len(history),
                "validation_accuracy": None if train.ensemble.diverged(history) else history[-1]["test_accuracy"],
                "test": _told(scores[i]),
            }
            for i, history in enumerate(histories)
        ],
    }
    folder.write_json("result.json", result)
    print(
        f"{len(histories)} runs in {seconds:.0f} s; {chosen.value:g} is the best learning rate; pictures, numbers and "
        f"best.safetensors are in {folder.path}"
    )


def learning_rates(written: tuple[str, ...]) -> list[float]:
    """The learning rates, ascending; raises where they are none."""
    rates = []
    for word in " ".join(written).replace(",", " ").split():
        try:
            rate = float(word)
        except ValueError:
            raise ValueError(f"--learning-rates: expected numbers like 1e-4,3e-4,1e-3, got {word!r}") from None
        cli.expect("learning_rates", word, 0 < rate < math.inf, "finite positive numbers")
        rates.append(rate)
    if not rates:
        raise ValueError("--learning-rates: expected at least one, for example 1e-4,3e-4,1e-3, got none")
    if len(set(rates)) < len(rates):
        raise ValueError(f"--learning-rates: expected each once, got {', '.join(f'{rate:g}' for rate in rates)}")
    return sorted(rates)


def build(about: dict[str, Any], key: jax.Array | int = 0) -> nnx.Module:
    """The network, from what `best.safetensors` says about it."""
    picture, classes, rngs = tuple(about["picture"]), int(about["classes"]), nnx.Rngs(key)
    if about["model"] == "lenet5":
        return models.LeNet(picture, classes=classes, rngs=rngs)
    return cifar10.network(picture, classes, rngs=rngs)


def load_best(path: Path) -> nnx.Module:
    """The best run of a sweep, from its `best.safetensors`, in evaluation mode.

    Raises:
        ValueError: If the file is damaged.
        OSError: If there is no such file.
    """
    model = interop.load_weights(path, build(interop.load_about(path)))
    model.eval()
    return model


def settings_table(settings: list[train.ensemble.Setting], scores: list[Scores | None]) -> str:
    """A line a learning rate: means and standard deviations over its runs."""
    rows = [["learning rate", "runs", "diverged", "validation accuracy", "test accuracy"]]
    for each in settings:
        tested = [score.accuracy for i in each.whole if (score := scores[i]) is not None]
        runs, lost = len(each.runs), len(each.runs) - len(each.whole)
        rows.append([f"{each.value:g}", f"{runs}", f"{lost}", _spread(each.accuracy), _spread(np.array(tested))])
    return aligned(rows, "rrrrr")


def scores_table(alone: list[Scores], together: Scores, best: Scores | None) -> str:
    """The ensemble beside its members and the best run, on the test pictures."""
    columns = {f"mean of the {len(alone)} runs": np.mean(alone, axis=0), f"ensemble of the {len(alone)}": together}
    if best is not None:
        columns["best run"] = best
    rows = [["on the test pictures", "accuracy", "log-likelihood", "calibration error"]]
    for name, (accuracy, loss, error) in columns.items():
        rows.append([name, f"{accuracy:.2%}", f"{-loss:.4f}", f"{error:.2%}"])
    return aligned(rows, "lrrr")


def draw(
    folder: train.RunFolder,
    settings: list[train.ensemble.Setting],
    histories: list[History],
    truth: np.ndarray,
    members: np.ndarray,
    together: np.ndarray,
) -> None:
    """The three pictures."""
    # To the history of a run, `test` is what is evaluated after each epoch; here that is the validation part.
    renamed = [[{k.replace("test_", "validation_"): v for k, v in r.items()} for r in h] for h in histories]
    groups = {f"learning rate {each.value:g}": [renamed[i] for i in each.runs] for each in settings}
    plots.spread(groups, folder / "sweep.png", metric="validation_accuracy")
    results = {
        each.value: [*(100 * each.accuracy), *[np.nan] * (len(each.runs) - len(each.whole))] for each in settings
    }
    plots.by_setting(results, folder / "learning_rates.png", x="learning rate", y="validation accuracy in %")
    pooled = inspect.reliability(members.reshape(-1, members.shape[-1]), np.tile(truth, len(members)))
    lines: dict[str, Reliability] = {
        f"{len(members)} single runs, pooled": pooled,
        f"ensemble of the {len(members)}": inspect.reliability(together, truth),
    }
    plots.reliability(lines, folder / "reliability.png")


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return "none"
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{100 * values.mean():.2f} ± {100 * deviation:.2f} %"


def _told(scores: Scores | None) -> dict[str, Any]:
    return {} if scores is None else scores._asdict()


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
