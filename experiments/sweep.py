"""Finds a learning rate: all combinations of seeds and learning rates trained as one compiled program.

    python -m experiments.sweep
    python -m experiments.sweep --model cifar10 --seeds 16 --learning-rates 1e-4 3e-4 1e-3
    python -m experiments.sweep --model cifar10 --data cifar10 --epochs 10 --batch-size 128     # for a GPU
    python -m experiments.sweep --resume runs/sweep           # resumes one that was stopped or killed

A part of the training pictures is held out for validation. The best setting is the one with the fewest diverged runs
and, among these, the highest mean validation accuracy. Test pictures are used only to rate its best run and the
ensemble of all its runs.

Writes config.json, checkpoints/, metrics.jsonl (a line per epoch, a number per run), result.json, sweep.png,
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
from jaxnn.train.ensemble import Setting


@dataclasses.dataclass(frozen=True)
class Options(pictures.Pictures):
    """Options of the sweep."""

    model: Literal["lenet5", "cifar10"] = "lenet5"
    """The network of `lenet5`, or that of `cifar10`."""
    seeds: cli.Count = 8
    """Runs per learning rate, which differ in initialisation and shuffling."""
    learning_rates: tuple[cli.Positive, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """The learning rates to try."""
    validation: float = 0.2
    """Fraction of the training pictures that is held out for validation."""
    at_once: cli.Count | None = None
    """Runs that a device trains at once; by default as many as fit its memory."""
    seed: cli.Natural = 0
    """The first of the seeds."""
    epochs: cli.Count = 15
    batch_size: cli.Count = 32
    normalize: bool = True
    run: Path = Path("runs/sweep")


def main(options: Options) -> None:
    """Trains all combinations, chooses a setting, and rates its best run and its ensemble."""
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
    print(f"{len(validation.labels)} training pictures are held out for validation; `test` below is measured on them")
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
    # Of the chosen setting only: the best run of a bad setting is luck.
    best = chosen.best
    interop.save_weights(folder / "best.safetensors", train.ensemble.member(states, best).model(), about=about)
    how = {"preprocess": work["preprocess"], "members_per_chunk": options.at_once}
    every = np.asarray(train.ensemble.predict(states, dataset.test, probabilities, **how))
    truth, members = dataset.test.labels, every[chosen.whole]
    scores = [inspect.scores(each, truth) if np.isfinite(each).all() else None for each in every]
    ensemble = inspect.scores(members.mean(0), truth)
    report(settings, scores, chosen, ensemble)
    draw(folder, settings, histories, truth, members)
    seconds = sum(record["seconds"] for record in folder.metrics())
    runs: list[dict[str, Any]] = []
    for rate, seed, history, score in zip(*table.values(), histories, scores, strict=True):
        diverged = train.ensemble.diverged(history)
        run = {"learning_rate": float(rate), "seed": int(seed), "diverged": diverged, "epochs": len(history)}
        accuracy = None if diverged else history[-1]["test_accuracy"]
        runs.append(run | {"validation_accuracy": accuracy, "test": score._asdict() if score else {}})
    result: dict[str, Any] = {"seconds": seconds, "learning_rate": chosen.value, "runs": runs}
    result["best_run"] = {"number": best, "seed": int(table["seed"][best])} | runs[best]["test"]
    result["ensemble"] = {"members": len(members)} | ensemble._asdict()
    folder.write_json("result.json", result)
    print(
        f"{len(histories)} runs in {seconds:.0f} s; {chosen.value:g} is the best learning rate; pictures, numbers and "
        f"best.safetensors are in {folder.path}"
    )


def build(about: dict[str, Any], key: jax.Array | int = 0) -> nnx.Module:
    """Builds the network that `best.safetensors` describes."""
    picture, classes, rngs = tuple(about["picture"]), int(about["classes"]), nnx.Rngs(key)
    if about["model"] == "lenet5":
        return models.LeNet(picture, classes=classes, rngs=rngs)
    return cifar10.network(picture, classes, rngs=rngs)


def load_best(path: Path) -> nnx.Module:
    model = interop.load_weights(path, build(interop.load_about(path)))
    model.eval()
    return model


def probabilities(model: Any, batch: Any) -> jax.Array:
    return jax.nn.softmax(model(batch.images).astype(jnp.float32))


def report(settings: list[Setting], scores: list[Scores | None], chosen: Setting, ensemble: Scores) -> None:
    """Prints a line per learning rate, then the ensemble beside its members and the best run."""
    rows = [["learning rate", "runs", "diverged", "validation accuracy", "test accuracy"]]
    for each in settings:
        tested = np.array([score.accuracy for i in each.whole if (score := scores[i])])
        runs, lost = len(each.runs), len(each.runs) - len(each.whole)
        rows.append([f"{each.value:g}", f"{runs}", f"{lost}", spread(each.accuracy), spread(tested)])
    print(aligned(rows, "rrrrr"))
    alone, best = [score for i in chosen.whole if (score := scores[i])], scores[chosen.best]
    columns = {f"mean of the {len(alone)} runs": np.mean(alone, axis=0), f"ensemble of the {len(alone)}": ensemble}
    columns |= {"best run": best} if best else {}
    rows = [["on the test pictures", "accuracy", "log-likelihood", "calibration error"]]
    rows += [[name, f"{right:.2%}", f"{-loss:.4f}", f"{error:.2%}"] for name, (right, loss, error) in columns.items()]
    print(aligned(rows, "lrrr"))


def spread(values: np.ndarray) -> str:
    if not len(values):
        return "none"
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{100 * values.mean():.2f} ± {100 * deviation:.2f} %"


def draw(folder: train.RunFolder, settings: list[Setting], histories: Any, truth: np.ndarray, members: Any) -> None:
    # A history calls what is evaluated after each epoch `test`; here that is the validation part.
    renamed = [[{k.replace("test_", "validation_"): v for k, v in r.items()} for r in h] for h in histories]
    groups = {f"learning rate {each.value:g}": [renamed[i] for i in each.runs] for each in settings}
    plots.spread(groups, folder / "sweep.png", metric="validation_accuracy")
    lost = {each.value: [np.nan] * (len(each.runs) - len(each.whole)) for each in settings}
    results = {each.value: [*(100 * each.accuracy), *lost[each.value]] for each in settings}
    plots.by_setting(results, folder / "learning_rates.png", x="learning rate", y="validation accuracy in %")
    pooled = inspect.reliability(members.reshape(-1, members.shape[-1]), np.tile(truth, len(members)))
    together = inspect.reliability(members.mean(0), truth)
    lines = {f"{len(members)} single runs, pooled": pooled, f"ensemble of the {len(members)}": together}
    plots.reliability(lines, folder / "reliability.png")


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
