"""An LSTM forecasts the sea surface temperature off Peru (El Niño), beside a seasonal-naive and a linear forecast.

    python -m experiments.forecast
    python -m experiments.forecast --tune          # the held-out end is cut off, the years before it stand in its place
    python -m experiments.forecast --cell gru --seeds 16

The series is real and comes inside statsmodels: 61 years of monthly means off Puerto Chicama, in degrees Celsius.

How it is split: by time. The last `--held-out` years are for the verdict alone; everything that is estimated (the mean
of each calendar month that is taken off, the scales, the linear forecast, the network) is estimated from months before
them, targets included. `--tune` cuts the held-out end off and judges on as many years before it: the defaults below
were chosen so, and so is the number of past months in the linear forecast, in every run.

What forecasts: from the `--window` months up to one month, all of the `--horizon` months that follow at once.

- seasonal-naive: the same month, a year before.
- climatology: the mean of the calendar month, whatever the past.
- linear: autoregression by least squares on the anomalies, one set of coefficients for each month ahead.
- LSTM: the linear forecast, plus what an LSTM over anomalies and calendar adds to it, in the hope that how this sea
  warms depends on the season too. The forecast is the mean over `--seeds` networks that differ in their random start
  and are trained as one compiled program.

What came out: the LSTM beats the seasonal-naive forecast but **not** the linear one. Tuned on 1991 to 2000 it was
better there (RMSE over 1 to 12 months 1.10 against 1.22 °C, one month ahead 0.437 against 0.456 °C), and in the decade
before, learned from the years before that, too (1.11 against 1.14, 0.392 against 0.407), but not in 1971 to 1980 (0.92
against 0.79, 0.397 against 0.391). On the held-out 2001 to 2010, for three seeds, it has 0.94 to 1.00 against 0.865 °C,
and 0.469 to 0.474 against 0.463 °C. One decade, with the El Niño of 1997 in it, was too little to tune on, and what the
LSTM adds is less than how much decades differ. More than three months ahead the climatology beats them all.

Leaves config.json, result.json, errors.png (by month ahead) and forecasts.png in the run folder.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.cli.checks import MOST, expect, expect_counts, expect_numbers, steps_of
from experiments.cli.command import run
from experiments.cli.options import Kept, folder_of, keeping
from experiments.data.series import (
    MONTHS,
    Floats,
    Ints,
    Linear,
    Scales,
    Series,
    load_elnino,
    seasonal_naive,
    targets,
    windows,
)
from jaxnn import models, train
from jaxnn.plots.figure import new_figure, plain, save
from jaxnn.train.step.batching import Metrics


@dataclasses.dataclass(frozen=True)
class Options(Kept):
    """How to forecast."""

    horizon: int = 12
    """Months ahead, all forecast at once."""
    window: int = 36
    """Months that the network sees."""
    held_out: int = 10
    """Years at the end of the series, for the verdict alone."""
    tune: bool = False
    """Cut the held-out end off and judge on as many years before it, to choose options by."""
    cell: Literal["rnn", "gru", "lstm"] = "lstm"
    """The recurrent layer."""
    hidden: int = 64
    """Its hidden units."""
    noise: float = 0.3
    """Standard deviation of the noise on the scaled past, in training."""
    epochs: int = 16
    """Passes over the months to learn from."""
    batch_size: int = 32
    """Windows a step."""
    learning_rate: float = 3e-3
    """The highest learning rate of the run."""
    weight_decay: float = 0.3
    """Decoupled weight decay of the weights."""
    seeds: int = 8
    """Networks whose mean is the forecast."""
    run: Path = Path("runs/forecast")


class Windows(NamedTuple):
    """What the network learns from.

    Attributes:
        past: `(examples, window, 3)`: scaled anomaly less that of the origin, and sine and cosine of the
            calendar month.
        left: `(examples, horizon)`: what the linear forecast leaves over, scaled.
    """

    past: Floats
    left: Floats


def main(options: Options) -> None:
    """Forecasts the end of the series in every way, and says how far off each was."""
    series = load_elnino()
    cut = check(options, series)
    if options.tune:
        series = series._replace(values=series.values[:cut])
        cut -= options.held_out * MONTHS
    folder = folder_of(options)
    last_year = series.first_year + len(series.values) // MONTHS - 1
    end_year = series.first_year + cut // MONTHS
    print(
        f"{series.name}, monthly means in {series.unit}: everything is estimated from {series.first_year} to "
        f"{end_year - 1}, judged on {end_year} to {last_year}"
        + (" (the end is cut off to tune)" if options.tune else "")
    )
    started = time.perf_counter()
    forecasts = forecast(series.values, cut, options, folder)
    seconds = time.perf_counter() - started

    origins = scored(series.values, cut, options.horizon)
    truth = series.values[targets(origins, options.horizon)]
    errors = {name: np.asarray(made) - truth for name, made in forecasts.items()}
    print(
        f"error in {series.unit} over {len(origins)} origins:  one month ahead      1 to {options.horizon} months ahead"
    )
    print(f"{'':>24}MAE    RMSE          MAE    RMSE")
    for name, error in errors.items():
        one, many = summary(error[:, 0]), summary(error)
        print(f"{name:>22}{one['mae']:>7.3f} {one['rmse']:>7.3f}      {many['mae']:>7.3f} {many['rmse']:>7.3f}")
    draw_errors(errors, series.unit, folder / "errors.png")
    draw_forecasts(series, origins, forecasts, folder / "forecasts.png")
    result = {name: {"one_step": summary(error[:, 0]), "multi_step": summary(error)} for name, error in errors.items()}
    folder.write_json("result.json", {"unit": series.unit, "seconds": seconds, "errors": result})
    print(f"after {seconds:.0f} s; pictures and numbers are in {folder.path}")


def check(options: Options, series: Series) -> int:
    """The first month of the held-out end; raises where an option does not fit the series."""
    expect_counts(
        options, "horizon", "window", "held_out", "hidden", "epochs", "batch_size", "seeds", "checkpoint_every"
    )
    last = (MOST + 1) // options.seeds - 1  # each seed stands for as many networks' own
    expect("seed", options.seed, 0 <= options.seed <= last, f"a whole number from 0 to {last}")
    expect_numbers(options, "noise", "learning_rate", "weight_decay")
    steps_of(options.epochs, len(series.values), options.batch_size)
    ends = (2 if options.tune else 1) * options.held_out
    years = len(series.values) // MONTHS
    # The linear forecast selects its order on as many years again, and needs some to be estimated from.
    least = ends + options.held_out + 10 + -(-max(options.window, 2 * MONTHS) // MONTHS)
    if years < least:
        raise ValueError(
            f"--held-out: expected fewer years, got {options.held_out}, which with --window {options.window} need a "
            f"series of {least} years, and there are {years}"
        )
    if options.horizon > options.held_out * MONTHS:
        raise ValueError(
            f"--horizon: expected at most the months of the held-out end, {options.held_out * MONTHS}, "
            f"got {options.horizon}"
        )
    return (years - options.held_out) * MONTHS


def scored(values: Floats, cut: int, horizon: int) -> Ints:
    """The origins whose targets all lie in the end that starts at `cut`."""
    return np.arange(cut - 1, len(values) - horizon)


def forecast(values: Floats, cut: int, options: Options, folder: train.RunFolder | None = None) -> dict[str, Floats]:
    """Forecasts the end that starts at `cut` in every way, by name: each `(origins, horizon)`, in the series' unit.

    Nothing is estimated from `values[cut:]`, and the forecast from an origin sees no month after it.
    """
    horizon, origins = options.horizon, scored(values, cut, options.horizon)
    scales = Scales.of(values[:cut])
    anomalies = values - scales.seasonal(np.arange(len(values)))
    seasonal = scales.seasonal(targets(origins, horizon))
    linear = Linear.select(anomalies[:cut], horizon, last=options.held_out * MONTHS)
    beyond = train_and_predict(anomalies, scales, linear, cut, options, folder)
    base = linear.forecast(anomalies, origins)
    return {
        "seasonal-naive": seasonal_naive(values, origins, horizon),
        "climatology": seasonal,
        f"linear, {linear.order} months": seasonal + base,
        options.cell.upper(): seasonal + base + beyond,
    }


def train_and_predict(
    anomalies: Floats,
    scales: Scales,
    linear: Linear,
    cut: int,
    options: Options,
    folder: train.RunFolder | None,
) -> Floats:
    """What the networks' mean adds to the linear forecast, `(origins, horizon)`."""
    angle = 2 * np.pi * (np.arange(len(anomalies)) % MONTHS) / MONTHS
    features = np.stack([anomalies / scales.deviation, np.sin(angle), np.cos(angle)], axis=-1)

    def pasts(origins: Ints) -> Floats:
        past = windows(features, origins, options.window)
        past[..., 0] -= past[:, -1:, 0]  # how it went, seen from the origin: the level is the linear forecast's
        return past

    # To learn from: origins whose window is whole and whose targets all lie before the cut.
    learned = np.arange(max(options.window, linear.order) - 1, cut - options.horizon)
    left = anomalies[targets(learned, options.horizon)] - linear.forecast(anomalies, learned)
    spread = left.std(axis=0)  # one a month ahead, so that near and far months count alike
    examples = Windows(pasts(learned), left / spread)
    origins = scored(anomalies, cut, options.horizon)
    judged = _float32(pasts(origins))
    states = train_networks(jax.tree.map(_float32, examples), options, folder)
    outputs = train.ensemble.predict(states, judged, lambda model, past: model(past))
    return np.asarray(outputs, np.float64).mean(axis=0) * spread


def train_networks(examples: Windows, options: Options, folder: train.RunFolder | None) -> train.TrainState:
    """Trains all networks as one ensemble; returns their stacked states."""
    tx = train.optimizer(
        "adamw",
        options.learning_rate,
        steps=steps_of(options.epochs, len(examples.left), options.batch_size),
        schedule="cosine",
        weight_decay=options.weight_decay,
        clip_norm=1.0,
    )

    def network(key: jax.Array) -> models.Forecaster:
        return models.Forecaster(
            examples.past.shape[-1],
            options.horizon,
            hidden=options.hidden,
            kind=options.cell,
            rngs=nnx.Rngs(key),
        )

    def loss_fn(model: Any, batch: Windows, key: jax.Array | None) -> tuple[jax.Array, Metrics]:
        past = jnp.asarray(batch.past)
        if key is not None:
            past = past.at[..., 0].add(options.noise * jax.random.normal(key, past.shape[:-1], past.dtype))
        return jnp.mean(jnp.square(model(past) - batch.left), axis=-1), {}

    first = options.seed * options.seeds
    states = train.create_ensemble(network, tx, {"seed": range(first, first + options.seeds)})
    states, histories = train.fit_ensemble(
        states, examples, loss_fn, epochs=options.epochs, batch_size=options.batch_size, **keeping(options, folder)
    )
    if lost := sum(map(train.ensemble.diverged, histories)):
        raise ValueError(f"{lost} of the {options.seeds} networks diverged: try a lower --learning-rate")
    return states


def _float32(array: Floats) -> jax.Array:
    return jnp.asarray(array, jnp.float32)


def summary(error: Floats) -> dict[str, float]:
    """Mean absolute error and root of the mean squared error."""
    return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt(np.square(error).mean()))}


def draw_errors(errors: Mapping[str, Floats], unit: str, path: Path) -> None:
    """The error of each forecast by month ahead."""
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot()
    for name, error in errors.items():
        ahead = np.arange(1, error.shape[1] + 1)
        axes.plot(ahead, np.sqrt(np.square(error).mean(axis=0)), "o-", markersize=3, linewidth=1.6, label=name)
    axes.set_xlabel("months ahead")
    axes.set_ylabel(f"RMSE in {unit}")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    plain(axes)
    axes.legend(frameon=False)
    save(figure, path)


def draw_forecasts(series: Series, origins: Ints, forecasts: Mapping[str, Floats], path: Path) -> None:
    """What came, and the last two ways' forecasts: one month ahead, and all months ahead from every December."""
    linear, network = list(forecasts)[-2:]
    horizon = forecasts[network].shape[1]
    year = lambda month: series.first_year + (month + 0.5) / MONTHS  # noqa: E731
    judged = np.arange(origins[0] + 1, len(series.values))
    decembers = np.flatnonzero(origins % MONTHS == MONTHS - 1)
    figure = new_figure(10.0, 6.4)
    for axes, title in zip(
        figure.subplots(2, 1, sharex=True, sharey=True),
        ("one month ahead", f"{horizon} months ahead, from every December"),
        strict=True,
    ):
        axes.plot(year(judged), series.values[judged], color="#999999", linewidth=2.5, label="measured")
        for name, colour in ((linear, "#1f77b4"), (network, "#e8590c")):
            made = forecasts[name]
            if title == "one month ahead":
                axes.plot(year(origins + 1), made[:, 0], color=colour, linewidth=1.2, label=name)
            else:
                for n in decembers:
                    months, label = targets(origins[n : n + 1], horizon)[0], name if n == decembers[0] else None
                    axes.plot(year(months), made[n], color=colour, linewidth=1.2, label=label)
        axes.set_title(title, fontsize=10, loc="right")
        axes.set_ylabel(f"temperature in {series.unit}")
        plain(axes)
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 0.98))
    axes.set_xlabel("year")
    save(figure, path)


if __name__ == "__main__":
    run(main, Options, __doc__)
