"""LSTMs forecast real time series with intervals, compared with four simple forecasts.

    python -m experiments.forecast
    python -m experiments.forecast --series sales.csv --scale log     # a series of your own, and its future
    python -m experiments.forecast --tune                             # judged on what comes before the held-out end

Ten series come inside statsmodels, with and without a season. Each is cut several times. Models are estimated from the
values before a cut, including season, scales and the width of intervals, and forecast the next `--horizon` steps from
every origin up to the next cut (`experiments.data.rolling`).

- naive, seasonal-naive: the last value, the last one of the same phase of the season.
- smoothing: the season, and exponential smoothing with a damped trend, ETS(A, A_d, N), of statsmodels.
- linear: the season, and autoregression by least squares for each step ahead.
- LSTM: the linear forecast with the quantiles of its errors, plus `--share` times the mean correction of `--seeds`
  LSTMs, trained by the quantile loss. The networks of all series and cuts are trained as one compiled program.

Writes config.json, result.json, forecasts.csv with the future of each series, forecasts.png and errors.png.
"""

import dataclasses
import math
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import forecast_report as report
from experiments.data.rolling import Task, calibrated, cuts, least_length, task
from jaxnn import cli, data, models, train
from jaxnn.data.series import Scale, Series
from jaxnn.train.losses import Metrics


@dataclasses.dataclass(frozen=True)
class Options(cli.Cosine):
    """How to forecast."""

    series: tuple[Path, ...] = ()
    """CSV files of your series instead: times in the first column (2024, 2024-05, 2024-05-31), values in the last."""
    period: (
        Annotated[float, cli.Bound("a number of at least 1; 1 is no season", lambda p: 1 <= p < math.inf)] | None
    ) = None
    """Length of the season of --series in steps; by default a year, or a week where a step is a day."""
    scale: Scale = "none"
    """The scale on which the variation of --series does not grow with its values."""
    horizon: cli.Count = 12
    """Steps ahead to forecast, all at once."""
    level: Annotated[float, cli.Bound("a number between 0 and 1", lambda x: 0 < x < 1)] = 0.9
    """Fraction of the values that the intervals should cover."""
    cuts: cli.Count = 4
    """Cuts of each series whose forecasts are scored."""
    tune: bool = False
    """Score on the steps before the held-out end of each series, to choose options."""
    cell: Literal["rnn", "gru", "lstm"] = "lstm"
    """The recurrent layer."""
    window: cli.Several = 24
    """Past steps that the network sees."""
    hidden: cli.Count = 16
    """Hidden units of the recurrent layer."""
    noise: cli.Number = 0.8
    """Standard deviation of the noise that training adds to the scaled past."""
    share: cli.Number = 0.5
    """Factor of the networks' correction."""
    epochs: cli.Count = 6
    examples: cli.Count = 512
    """Training examples of each series and cut: a part of a long series; examples of a short one are repeated."""
    batch_size: cli.Count = 32
    learning_rate: cli.Number = 3e-3
    weight_decay: cli.Number = 0.1
    """Decoupled weight decay of the weights."""
    seeds: cli.Count = 6
    """Networks per series and cut, whose mean is the correction."""
    run: Path = Path("runs/forecast")

    @property
    def quantiles(self) -> tuple[float, float, float]:
        """Quantiles of lower end, middle and upper end."""
        return (1 - self.level) / 2, 0.5, (1 + self.level) / 2


def main(options: Options) -> None:
    """Forecasts every series from all origins by every method, and reports the errors."""
    series = series_of(options)
    tasks = tasks_of(series, options)
    work = work_of([each for group in tasks for each in group], options)
    if options.dry_run:
        number = sum(map(len, tasks))
        print(f"one of {number * options.seeds} networks, which are trained together:")
        cli.dry_run(options, lambda: train.ensemble.member(create_networks(number, options), 0), **work)
        return
    folder = cli.folder_of(options)
    print(f"{len(series)} series, {options.horizon} steps ahead, cuts per series: {options.cuts}")
    started = time.perf_counter()
    tasks = forecast(tasks, work, options, cli.keeping(options, folder, log=False))
    scores = {each[0].series.name: report.score(each, options.level) for each in tasks}
    print(report.table(scores, options.level))
    report.draw_forecasts(tasks, options.level, folder / "forecasts.png")
    report.draw_errors(scores, folder / "errors.png")
    report.write_future(tasks, folder / "forecasts.csv")
    seconds = time.perf_counter() - started
    folder.write_json("result.json", {"seconds": seconds, "scores": scores})
    print(f"after {seconds:.0f} s; pictures and numbers are in {folder.path}")


def series_of(options: Options) -> list[Series]:
    """Loads the series; checks them and the options."""
    cli.check_run(options)
    last = (cli.MOST + 1) // options.seeds - 1  # each seed stands for as many networks
    cli.expect("seed", options.seed, options.seed <= last, f"a whole number from 0 to {last}")
    cli.steps_of(options.epochs, options.examples, options.batch_size)
    if not options.series:
        cli.unused(options, "period", "scale", because="without --series; the season of others is known")
    found = own_series(options) if options.series else data.load_series()

    def starts(each: Series) -> list[int]:
        return [cut.at for cut in cuts(len(each.values), options.horizon, options.cuts)]

    def least(each: Series) -> int:
        return least_length(options.window, options.horizon, options.cuts, each.period)

    if options.tune:
        found = [each._replace(values=each.values[: max(starts(each)[1], 0)]) for each in found]
        if short := [each.name for each in found if len(each.values) < least(each)]:
            print(f"too short before the held-out end: {', '.join(short)}")
        found = [each for each in found if each.name not in short] or found
    for each in found:
        enough = f"no more than the {len(each.values)} values of {each.name} allow"
        steps = f"{options.horizon} steps at {options.cuts} cuts, which need {least(each)}"
        advice = "; choose fewer steps, fewer --cuts or a smaller --window"
        cli.expect("horizon", steps, len(each.values) >= least(each), enough + advice)
        first, period = each.values[: starts(each)[0]], round(each.period)
        changes = bool((first[period:] != first[:-period]).any())
        cli.expect("series", f"the same again and again in {each.name}", changes, "values that change")
    return found


def own_series(options: Options) -> list[Series]:
    for path in options.series:
        cli.expect("series", path, path.is_file(), "an existing CSV file")
    names = [path.stem for path in options.series]
    cli.expect("series", ", ".join(names), len(set(names)) == len(names), "files of different names")
    try:
        return [data.read_series(path, period=options.period, scale=options.scale) for path in options.series]
    except ValueError as error:
        raise ValueError(f"--series: {error}") from None


def tasks_of(series: Sequence[Series], options: Options) -> list[list[Task]]:
    how: Any = {"horizon": options.horizon, "window": options.window, "quantiles": options.quantiles}
    return [[task(one, cut, **how) for cut in cuts(len(one.values), options.horizon, options.cuts)] for one in series]


def forecast(tasks: list[list[Task]], work: Any, options: Options, kept: Any) -> list[list[Task]]:
    """Adds the networks' forecasts to each series at all its cuts, and calibrates all intervals."""
    states, histories = train.ensemble.fit(create_networks(sum(map(len, tasks)), options), **work, **kept)
    if lost := sum(map(train.ensemble.diverged, histories)):
        raise ValueError(
            f"--learning-rate: expected one that all networks bear, got {options.learning_rate}, with which {lost} of "
            f"{len(histories)} diverged; try a lower one."
        )
    every = [each for group in tasks for each in group]
    most = max(len(each.past) for each in every)
    past = _float32([np.resize(each.past, (most, *each.past.shape[1:])) for each in every])
    outputs = train.ensemble.predict(states, np.arange(most), lambda model, n: model(past[model.task[...], n]))
    networks = np.asarray(outputs, np.float64).reshape(len(every), options.seeds, *outputs.shape[1:])
    for each, added in zip(every, networks.mean(axis=1), strict=True):
        change = options.share * added[: len(each.past)] * each.spread[:, None]
        each.made[options.cell.upper()] = np.sort(each.made["linear"] + change)
    return [calibrated(group, options.level) for group in tasks]


class Network(nnx.Module):
    """A forecaster of all quantiles, with the index of its task."""

    def __init__(self, task: jax.Array, options: Options, rngs: nnx.Rngs) -> None:
        outputs = options.horizon * len(options.quantiles)
        self.forecaster = models.Forecaster(4, outputs, hidden=options.hidden, kind=options.cell, rngs=rngs)
        self.task = nnx.Variable(task)

    def __call__(self, past: jax.Array) -> jax.Array:
        """`(batch, window, 4)` -> `(batch, horizon, quantiles)`."""
        return self.forecaster(past).reshape(len(past), -1, 3)


def work_of(tasks: Sequence[Task], options: Options) -> dict[str, Any]:
    """Arguments of `train.ensemble.fit`; the loss is the quantile loss of the linear forecasts' errors.

    The data are indices of examples; the loss holds the arrays themselves, once for all networks.
    """
    numbers = [_spaced(len(each.known_past), options.examples) for each in tasks]
    past = _float32([each.known_past[n] for each, n in zip(tasks, numbers, strict=True)])
    errors = _float32([each.known_errors[n] for each, n in zip(tasks, numbers, strict=True)])
    start = _float32([np.quantile(each.known_errors, options.quantiles, axis=0).T for each in tasks]).at[..., 1].set(0)
    pinball = train.losses.quantile(options.quantiles, apply_fn=lambda outputs, batch: outputs)

    def loss_fn(model: Any, batch: dict[str, jax.Array], key: jax.Array | None) -> tuple[jax.Array, Metrics]:
        of = model.task[...]
        seen = past[of, batch["example"]]
        if key is not None:
            noise = options.noise * jax.random.normal(key, (*seen.shape[:-1], 2), seen.dtype)
            seen = seen.at[..., :2].add(noise)
        return pinball(model(seen) + start[of][None], {"targets": errors[of, batch["example"]]}, None)

    # A checksum of the series in the data, so that a checkpoint of other series is refused.
    checksum = zlib.crc32(b"".join(each.series.values.tobytes() for each in tasks))
    identity = np.full(options.examples, checksum, np.uint32)
    examples = {"example": np.arange(options.examples), "series": identity}
    return {"data": examples, "loss_fn": loss_fn, "epochs": options.epochs, "batch_size": options.batch_size}


def _spaced(known: int, wanted: int) -> Any:
    """Indices of `wanted` of the `known` examples: evenly spaced, or repeated where fewer are known."""
    return np.linspace(0, known - 1, wanted).round().astype(int) if known > wanted else np.arange(wanted) % known


def create_networks(tasks: int, options: Options) -> train.TrainState:
    """Creates the stacked states of `--seeds` networks for each task."""
    steps = cli.steps_of(options.epochs, options.examples, options.batch_size)
    limits: Any = {"weight_decay": options.weight_decay, "clip_norm": 1.0}
    tx = train.optimizer("adamw", options.learning_rate, steps=steps, schedule="cosine", **limits)

    @jax.jit
    @jax.vmap
    def create(key: jax.Array, task: jax.Array) -> train.TrainState:
        return train.create_state(Network(task, options, nnx.Rngs(key)), tx, key)

    first = options.seed * options.seeds
    keys = jnp.stack([jax.random.key(seed) for seed in range(first, first + options.seeds)])
    return create(jnp.tile(keys, tasks), jnp.repeat(jnp.arange(tasks, dtype=jnp.int32), options.seeds))


def _float32(arrays: Any) -> jax.Array:
    return jnp.asarray(np.asarray(arrays), jnp.float32)


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
