"""Finds a learning rate: all combinations of seeds and learning rates trained as one compiled program.

    python -m experiments.sweep
    python -m experiments.sweep --model cifar10 --seeds 16 --learning-rates 1e-4 3e-4 1e-3
    python -m experiments.sweep --model cifar10 --data cifar10 --epochs 10 --batch-size 128     # for a GPU
    python -m experiments.sweep --resume runs/sweep           # resumes one that was stopped or killed

A part of the training pictures is held back to choose by: settings by the mean validation accuracy of their runs,
those with fewest that diverged first. The test pictures are for the verdict alone, on the best run and on the ensemble
of all runs of the best setting.

Leaves config.json, checkpoints/, metrics.jsonl (a line an epoch, a number a run), result.json, sweep.png,
learning_rates.png, reliability.png and best.safetensors, the best run, which `experiments.sweep.load_best` reads.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import cifar10, pictures
from jaxnn import cli, data, inspect, interop, models, plots, train
from jaxnn.inspect.calibration import Scores
from jaxnn.inspect.summary import aligned


@dataclasses.dataclass(frozen=True)
class Options(pictures.Pictures):
    """Options of the sweep."""

    model: Literal["lenet5", "cifar10"] = "lenet5"
    """The tutorial's LeNet, or its CIFAR-10 network."""
    seeds: cli.Count = 8
    """Runs of each learning rate, of different initialisation and shuffling."""
    learning_rates: tuple[cli.Positive, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """The learning rates to try."""
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
    rates, last = sorted(options.learning_rates), cli.MOST + 1 - options.seeds
    cli.expect("learning_rates", "none", len(rates) > 0, "at least one")
    cli.expect("learning_rates", rates, len({*rates}) == len(rates), "each once")
    cli.expect("seed", options.seed, options.seed <= last, f"a whole number from 0 to {last}")
    dataset = pictures.load(options)
    with cli.as_typed(share="--validation"):
        learned, validation = data.split(dataset.train, options.validation)
    dataset = dataset._replace(train=learned)
    work = pictures.work_of(options, dataset) | {"test_data": validation}
    tx = pictures.optimizer_of(options, dataset, rates[-1])
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
    kept = cli.keeping(options, folder, free=pictures.FREE) | {"members_per_chunk": options.at_once}
    states, histories = train.ensemble.fit(create(), **work, **kept)

    settings = train.ensemble.settings(table["learning_rate"], histories)
    chosen = max(settings, key=lambda each: each.rank)
    # The best run of the chosen setting: a lucky one of a bad setting would not be lucky again.
    best = chosen.best
    interop.save_weights(folder / "best.safetensors", train.ensemble.member(states, best).model(), about=about)
    how = {"preprocess": work["preprocess"], "members_per_chunk": options.at_once}

    def probabilities(model: Any, batch: Any) -> jax.Array:
        return jax.nn.softmax(model(batch.images).astype(jnp.float32))

    every = np.asarray(train.ensemble.predict(states, dataset.test, probabilities, **how))
    truth, together = dataset.test.labels, every[chosen.whole].mean(0)
    scores = [inspect.scores(each, truth) if np.isfinite(each).all() else None for each in every]
    ensemble = inspect.scores(together, truth)
    print(settings_table(settings, scores))
    print(scores_table([score for i in chosen.whole if (score := scores[i]) is not None], ensemble, scores[best]))
    draw(folder, settings, histories, truth, every[chosen.whole], together)
    seconds = sum(record["seconds"] for record in folder.metrics())
    result = {
        "seconds": seconds,
        "learning_rate": chosen.value,
        "best_run": {"number": best, "seed": int(table["seed"][best])} | _told(scores[best]),
        "ensemble": {"members": len(chosen.whole)} | _told(ensemble),
        "runs": [
            {
                "learning_rate": float(rate),
                "seed": int(seed),
                "diverged": (diverged := train.ensemble.diverged(history)),
                "epochs": len(history),
                "validation_accuracy": None if diverged else history[-1]["test_accuracy"],
                "test": _told(score),
            }
            for rate, seed, history, score in zip(*table.values(), histories, scores, strict=True)
        ],
    }
    folder.write_json("result.json", result)
    print(
        f"{len(histories)} runs in {seconds:.0f} s; {chosen.value:g} is the best learning rate; pictures, numbers and "
        f"best.safetensors are in {folder.path}"
    )


def build(about: dict[str, Any], key: jax.Array | int = 0) -> nnx.Module:
    """The network, from what `best.safetensors` says about it."""
    picture, classes, rngs = tuple(about["picture"]), int(about["classes"]), nnx.Rngs(key)
    if about["model"] == "lenet5":
        return models.LeNet(picture, classes=classes, rngs=rngs)
    return cifar10.network(picture, classes, rngs=rngs)


def load_best(path: Path) -> nnx.Module:
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
    columns |= {} if best is None else {"best run": best}
    rows = [[name, f"{right:.2%}", f"{-loss:.4f}", f"{error:.2%}"] for name, (right, loss, error) in columns.items()]
    return aligned([["on the test pictures", "accuracy", "log-likelihood", "calibration error"], *rows], "lrrr")


def draw(
    folder: train.RunFolder, settings: Any, histories: Any, truth: np.ndarray, members: np.ndarray, together: np.ndarray
) -> None:
    # To the history of a run, `test` is what is evaluated after each epoch; here that is the validation part.
    renamed = [[{k.replace("test_", "validation_"): v for k, v in r.items()} for r in h] for h in histories]
    groups = {f"learning rate {each.value:g}": [renamed[i] for i in each.runs] for each in settings}
    plots.spread(groups, folder / "sweep.png", metric="validation_accuracy")
    lost = {each.value: [np.nan] * (len(each.runs) - len(each.whole)) for each in settings}
    results = {each.value: [*(100 * each.accuracy), *lost[each.value]] for each in settings}
    plots.by_setting(results, folder / "learning_rates.png", x="learning rate", y="validation accuracy in %")
    pooled = inspect.reliability(members.reshape(-1, members.shape[-1]), np.tile(truth, len(members)))
    lines = {
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
