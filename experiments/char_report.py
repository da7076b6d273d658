"""Output of a character language model's training: lines, samples, curves and the model."""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.data.text import Text, encode
from jaxnn import cli, interop, train
from jaxnn.files import replacing
from jaxnn.models import LanguageModel
from jaxnn.plots.figure import TEST, TRAIN, new_figure, plain, save
from jaxnn.train.run.progress import clock

LONGEST_PROMPT = 10_000

Record = dict[str, Any]
"""Of a segment of steps; those at which the held-out text was looked at have `held_out_bits` and `sample` too."""

HEAT = cli.Bound(
    "a finite positive number; --top-k 1 always writes the most likely character", lambda x: 0 < x < math.inf
)


@dataclasses.dataclass(frozen=True)
class Sampling(cli.Kept):
    """How a model writes."""

    length: cli.Count = 500
    """Characters to write."""
    temperature: Annotated[float, HEAT] = 0.8
    """Below 1 writes what is likely, above 1 what is surprising."""
    top_k: cli.Count | None = None
    """Choose among this many of the most likely characters only."""
    top_p: Annotated[float, cli.Bound("a probability above 0, at most 1", lambda p: 0 < p <= 1)] | None = None
    """Choose among the most likely characters that together have this probability only."""


def write(model: LanguageModel, characters: str, prompt: str, options: Sampling) -> str:
    """Writes on from the prompt; the same for the same seed."""
    if not 0 < len(prompt) <= LONGEST_PROMPT:
        raise ValueError(
            f"--generate: expected at least one character and at most {LONGEST_PROMPT:,} characters, "
            f"got {len(prompt):,}; give their end."
        )
    shape = {name: getattr(options, name) for name in ("length", "temperature", "top_k", "top_p")}
    tokens = _write(model, jnp.asarray(encode(prompt, characters)), jax.random.key(options.seed), **shape)
    return "".join(characters[token] for token in np.asarray(tokens))


@partial(jax.jit, static_argnames=("length", "temperature", "top_k", "top_p"))
def _write(model: LanguageModel, prompt: jax.Array, key: jax.Array, *, length: int, **shape: Any) -> jax.Array:
    return model.generate(prompt, key, max_length=length, **shape).tokens


def opening(characters: str) -> str:
    """The beginning of samples: a new line, where the text has any."""
    return "\n" if "\n" in characters else characters[0]


def evaluated(state: train.TrainState) -> LanguageModel:
    """The language model of a training state, in evaluation mode."""
    model = state.model().model
    model.eval()
    return model


def save_model(path: Path, model: LanguageModel, characters: str, sizes: dict[str, Any]) -> None:
    """Writes a model as one file: its weights, what its tokens mean, and what `LanguageModel` was built with."""
    interop.save_weights(path, model, about={"characters": characters, "sizes": sizes})


def load_model(path: Path) -> tuple[LanguageModel, str]:
    """Reads a file that `save_model` wrote: the model, in evaluation mode, and its characters.

    Raises:
        ValueError: If there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise ValueError(f"--run: expected a folder with model.safetensors, got {path.parent}; train a model first.")
    try:
        about = interop.load_about(path)
        characters = about["characters"]
        model = LanguageModel(len(characters), **about["sizes"], rngs=nnx.Rngs(0))
        model = interop.load_weights(path, model)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--run: expected a model of char_lm, got {path}, which is damaged: {error}") from error
    model.eval()
    return model, characters


def export(folder: train.RunFolder, state: train.TrainState, text: Text) -> None:
    """Writes model.jaxprogram: the model for texts of any length, and one step for characters that come one by one."""
    program = train.export(
        state,
        text.train[None, :1],
        lambda reader, tokens: reader.model(tokens)[0],
        shapes="b, t",
        step_example=text.train[:1],
        start_fn=lambda reader, tokens: reader.model.zero_state(tokens.shape),
        step_fn=lambda reader, before, tokens: reader.model.step(before, tokens),
        about={"characters": text.characters},
    )
    program.save(folder / "model.jaxprogram")


def line(record: Record) -> str:
    """How far training is and how well it does, where the held-out text was looked at."""
    return (
        f"{record['share']:4.0%}  step {record['step']:,}  {record['epochs']:.1f} passes  "
        f"train {record['train_bits']:.3f}  held out {record['held_out_bits']:.3f} bits per character  "
        f"{clock(record['seconds'])}"
    )


def show(record: Record) -> None:
    """Prints the line and the beginning of the sample."""
    sample = ["    " + part for part in record["sample"].strip("\n").splitlines()[:6]]
    print("\n".join([line(record), *sample]), flush=True)


def leave(
    folder: train.RunFolder, model: LanguageModel, characters: str, sizes: dict[str, Any], records: list[Record]
) -> None:
    """Writes model.safetensors, and samples.txt with the samples of all records."""
    save_model(folder / "model.safetensors", model, characters, sizes)
    samples = "".join(f"{line(record)}\n\n{record['sample']}\n\n" for record in records if "sample" in record)
    with replacing(folder / "samples.txt") as beside:
        beside.write_text(samples, encoding="utf-8")


@contextlib.contextmanager
def told_if_full(folder: train.RunFolder) -> Iterator[None]:
    """Continues training when what it shows on the way cannot be written."""
    try:
        yield
    except OSError as error:
        warnings.warn(
            f"model and samples could not be written to {folder.path} ({error.strerror}); training continues, and they "
            "are written with the next report",
            train.checkpoint.CheckpointWarning,
            stacklevel=3,
        )


def curves(records: list[Record], path: Path) -> None:
    """Draws bits per character over the passes through the text."""
    figure = new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    for name, colour, label in (("train_bits", TRAIN, "training, with dropout"), ("held_out_bits", TEST, "held out")):
        points = np.array([(r["epochs"], r[name]) for r in records if name in r])
        style = ".-" if len(points) < 50 else "-"
        axes.plot(*points.T, style, color=colour, label=f"{label}, last {points[-1, 1]:.3f}")
    axes.set_xlabel("passes through the text")
    axes.set_ylabel("bits per character")
    plain(axes)
    axes.legend(frameon=False)
    save(figure, path)
