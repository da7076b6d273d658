"""What a character language model's training leaves for a person: lines, samples, curves and the model."""

import contextlib
import math
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import model_file
from experiments.cli.checks import expect, expect_counts
from experiments.data.text import Text, Vocabulary
from jaxnn import train
from jaxnn.files import replacing
from jaxnn.models import LanguageModel
from jaxnn.plots.figure import TEST, TRAIN, new_figure, plain, save
from jaxnn.train.run.progress import clock

if TYPE_CHECKING:
    from experiments.char_lm import Options

LONGEST_PROMPT = 10_000

Record = dict[str, Any]
"""Of a segment of steps; those at which the held-out text was looked at have `held_out_bits` and `sample` too."""


def line(record: Record) -> str:
    """How far training is and how well it does, where the held-out text was looked at."""
    return (
        f"{record['share']:4.0%}  step {record['step']:,}  {record['epochs']:.1f} passes  "
        f"train {record['train_bits']:.3f}  held out {record['held_out_bits']:.3f} bits per character  "
        f"{clock(record['seconds'])}"
    )


def show(record: Record) -> None:
    """Prints the line and the beginning of the sample."""
    print(
        "\n".join([line(record), *("    " + part for part in record["sample"].strip("\n").splitlines()[:6])]),
        flush=True,
    )


def leave(
    folder: train.RunFolder, model: LanguageModel, vocabulary: Vocabulary, sizes: dict[str, Any], records: list[Record]
) -> None:
    """Writes model.safetensors, and samples.txt with the samples of all records."""
    model_file.save(folder / "model.safetensors", model, vocabulary, sizes)
    samples = "".join(f"{line(record)}\n\n{record['sample']}\n\n" for record in records if "sample" in record)
    with replacing(folder / "samples.txt") as beside:
        beside.write_text(samples, encoding="utf-8")


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
        about={"characters": text.vocabulary.characters},
    )
    program.save(folder / "model.jaxprogram")


def curves(records: list[Record], path: Path) -> None:
    """Draws bits per character over the passes through the text."""
    figure = new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    for name, colour, label in (("train_bits", TRAIN, "training, with dropout"), ("held_out_bits", TEST, "held out")):
        points = np.array([(r["epochs"], r[name]) for r in records if name in r])
        axes.plot(
            *points.T, ".-" if len(points) < 50 else "-", color=colour, label=f"{label}, last {points[-1, 1]:.3f}"
        )
    axes.set_xlabel("passes through the text")
    axes.set_ylabel("bits per character")
    plain(axes)
    axes.legend(frameon=False)
    save(figure, path)


@contextlib.contextmanager
def told_if_full(folder: train.RunFolder) -> Iterator[None]:
    """Lets training go on when what it shows on the way cannot be written."""
    try:
        yield
    except OSError as error:
        warnings.warn(
            f"model and samples could not be written to {folder.path} ({error.strerror}); training goes on, and they "
            "are written with the next report",
            train.checkpoint.CheckpointWarning,
            stacklevel=3,
        )


def evaluated(state: train.TrainState) -> LanguageModel:
    """The language model of a training state, in evaluation mode."""
    model = state.model().model
    model.eval()
    return model


def check_sampling(options: "Options") -> None:
    """Raises where nothing could be written with these options."""
    expect_counts(options, "length", "top_k")
    expect_counts(options, "seed", least=0)
    heat, share = options.temperature, options.top_p
    hint = "a finite positive number; --top-k 1 always writes the most likely character"
    expect("temperature", heat, 0 < heat < math.inf, hint)
    expect("top_p", share, share is None or 0 < share <= 1, "a probability above 0, at most 1")


def write(model: LanguageModel, vocabulary: Vocabulary, prompt: str, options: "Options") -> str:
    """What the model writes after the prompt; the same for the same seed."""
    check_sampling(options)
    if not prompt:
        raise ValueError("--generate: expected at least one character to go on from, got ''")
    if len(prompt) > LONGEST_PROMPT:
        raise ValueError(
            f"--generate: expected at most {LONGEST_PROMPT:,} characters, got {len(prompt):,}; give their end"
        )
    tokens = jnp.asarray(vocabulary.encode(prompt, "the text to go on from"))
    shape = {name: getattr(options, name) for name in ("length", "temperature", "top_k", "top_p")}
    return vocabulary.decode(np.asarray(_write(model, tokens, jax.random.key(options.seed), **shape)).tolist())


@partial(jax.jit, static_argnames=("length", "temperature", "top_k", "top_p"))
def _write(model: LanguageModel, prompt: jax.Array, key: jax.Array, *, length: int, **shape: Any) -> jax.Array:
    return model.generate(prompt, key, max_length=length, **shape).tokens


def opening(vocabulary: Vocabulary) -> str:
    """What samples begin with: a new line, where the text has any."""
    return "\n" if "\n" in vocabulary.characters else vocabulary.characters[0]
