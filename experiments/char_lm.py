"""A character language model: an LSTM learns to write, by truncated back-propagation through time with carried state.

    python -m experiments.char_lm
    python -m experiments.char_lm --text my_book.txt --minutes 14
    python -m experiments.char_lm --text my_book.txt --epochs 16 --layers 2 --dropout 0.5 --learning-rate 3e-3
    python -m experiments.char_lm --resume runs/char_lm
    python -m experiments.char_lm --generate "The " --run runs/char_lm --temperature 0.8

Learns the text inside CPython (its language reference) or any UTF-8 file, and is judged by bits per character on the
last tenth, which it never trains on. Leaves config.json, metrics.jsonl, curves.png, samples.txt, result.json and the
model, model.npz, in the run folder.

Every minute it saves a checkpoint there, and at the end, and when Ctrl-C or SIGTERM stops it; --resume goes on from the
last one. With --epochs the model is then, bit for bit, that of a run that never stopped; with --minutes it trains for
the minutes that were left.
"""

import contextlib
import dataclasses
import json
import math
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments import model_file
from experiments.budget import Budget, cosine
from experiments.char_report import Record, curves, leave, show
from experiments.cli.checks import expect, expect_counts
from experiments.cli.command import run
from experiments.cli.options import folder_of, kept, to_resume
from experiments.data.text import Text, Vocabulary, chunks_per_epoch, read
from experiments.streaming import Streams, bits_per_character, make_segment
from jaxnn import train
from jaxnn.files import replacing
from jaxnn.models import LanguageModel
from jaxnn.train.checkpoint import signals
from jaxnn.train.checkpoint.fingerprint import identity
from jaxnn.train.run.metrics_log import MetricsLog
from jaxnn.train.run.progress import clock

LONGEST_PROMPT = 10_000
REPORTS = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
"""After which shares of the run the held-out text is looked at and a sample is written."""


@dataclasses.dataclass
class Options:
    """How to train, or what to write."""

    text: Path | None = None
    """A UTF-8 text to learn; without one, the text inside CPython (0.5 MB)."""
    minutes: float | None = None
    """How long to train, whatever the machine: 4 by default, 14 with --text. The schedule follows the clock, so no two
    runs are the same to the last bit."""
    epochs: float | None = None
    """Train for so many passes over the text instead, in whole segments: the same numbers in every run."""
    layers: int = 1
    """LSTM layers."""
    hidden: int = 512
    """Hidden units of each layer."""
    embed: int = 64
    """Size of a character's embedding."""
    dropout: float = 0.3
    """Dropout between the layers and before the logits."""
    streams: int = 32
    """Parts of the text that are read side by side: the batch."""
    chunk: int = 64
    """Characters of each stream in a step: how far back gradients go. The state is carried further."""
    restart: float = 0.02
    """The chance that a stream forgets its state before a chunk, so that the model learns to begin."""
    learning_rate: float = 4e-3
    """The highest learning rate of the run: it warms up, then falls as half a cosine."""
    weight_decay: float = 0.01
    """Decoupled weight decay of the weights (AdamW)."""
    clip: float = 1.0
    """The longest gradient; longer ones are scaled down."""
    segment: int = 100
    """Steps in a compiled program; the learning rate is planned a segment ahead."""
    seed: int = 0
    """Everything random follows from it."""
    run: Path = Path("runs/char_lm")
    """The run folder; a number is added where it exists, nothing is overwritten. With --generate: where the model
    is."""
    resume: Path | None = None
    """Go on with the run in this folder, with its options."""
    checkpoint_seconds: float = 60.0
    """Seconds from one checkpoint to the next."""
    generate: str | None = None
    """Write on from this beginning, with the model in --run, instead of training."""
    length: int = 500
    """Characters to write."""
    temperature: float = 0.8
    """Below 1 writes what is likely, above 1 what is surprising."""
    top_k: int | None = None
    """Choose among so many of the most likely characters only."""
    top_p: float | None = None
    """Choose among the most likely characters that together have this probability only."""


FREE = ("run", "resume", "checkpoint_seconds", "text", "generate", "length", "temperature", "top_k", "top_p")
"""Options that a run may change when it goes on; the text may lie elsewhere, but not be another one."""


def main(options: Options) -> None:
    """Trains a model, or lets one write."""
    if options.generate is None:
        learn(options)
    elif options.resume is not None:
        raise ValueError("--resume trains on, --generate writes with the model in --run; give one of them")
    else:
        model, vocabulary = model_file.load(options.run / "model.npz")
        print(options.generate + write(model, vocabulary, options.generate, options))


def learn(options: Options) -> None:
    """Trains a model on a text, shows how it comes on, saves it, and judges it on the held-out end."""
    expect_counts(options, "layers", "hidden", "embed", "streams", "chunk", "segment")
    seconds, clip = options.checkpoint_seconds, options.clip
    expect("restart", options.restart, 0 <= options.restart <= 1, "a chance from 0 to 1")
    expect("dropout", options.dropout, 0 <= options.dropout < 1, "a number from 0 to below 1")
    expect("checkpoint_seconds", seconds, seconds >= 0, "a number that is not negative")
    expect("clip", clip, clip > 0, "a positive number")
    for name in ("learning_rate", "weight_decay"):
        value = getattr(options, name)
        expect(name, value, 0 <= value < math.inf, "a finite number that is not negative")
    check_sampling(options)  # now, not when the first sample is due
    if options.resume is not None:
        to_resume(options.resume)  # a folder that is not there is told before anything is loaded
    text = read(options.text)
    per_epoch = chunks_per_epoch(len(text.train), options.streams, options.chunk)
    usual = 4.0 if options.text is None else 14.0
    budget = Budget.of(epochs=options.epochs, minutes=options.minutes, steps_per_epoch=per_epoch, usual_minutes=usual)
    sizes: dict[str, Any] = {
        "embed_features": options.embed,
        "hidden_features": options.hidden,
        "layers": options.layers,
    }
    model = LanguageModel(len(text.vocabulary), **sizes, dropout=options.dropout, rngs=nnx.Rngs(options.seed))
    tx = train.optimizer(
        "adamw", options.learning_rate, steps=1, weight_decay=options.weight_decay, clip_norm=options.clip
    )
    state = train.create_state(Streams(model, options.streams), tx, jax.random.key(options.seed))
    folder = folder_of(options)
    parameters = sum(p.size for p in jax.tree.leaves(state.params))
    print(
        f"an LSTM with {parameters:,} parameters on {text.name}: {len(text.train):,} characters to train on, "
        f"{len(text.held_out):,} held out, {len(text.vocabulary)} different ones; {jax.devices()[0].device_kind}",
        flush=True,
    )
    segment = make_segment(streams=options.streams, chunk=options.chunk, restart=options.restart)
    train_text, held_out, before = jnp.asarray(text.train), jnp.asarray(text.held_out), jnp.asarray(text.train[-1])
    log = MetricsLog(folder)
    with train.checkpoint.Saver(checkpoints_of(options, folder), identity_of(text)) as saver:
        state, position = saver.restore(state, folder)
        records, share = position.history, 0.0
        if records:
            print(f"going on after step {int(state.step):,}", flush=True)
            share = records[-1]["share"]
            budget.resume(position.seconds)
        # Compiled now, so that every segment takes the same time.
        segment.lower(state, train_text, jnp.zeros(options.segment)).compile()
        while share < 1:
            saver.stop_if_asked(state, position)
            shares = budget.shares(len(records) * options.segment, options.segment)
            started = time.perf_counter()
            state, metrics = segment(state, train_text, jnp.asarray(cosine(shares, options.learning_rate)))
            losses = signals.fetch(metrics["loss"])
            budget.seconds_per_step = (time.perf_counter() - started) / options.segment
            before_it, share = share, float(shares[-1])
            step = int(state.step)
            record: Record = {"step": step, "epochs": step / per_epoch, "share": share}
            record["train_bits"] = float(losses.mean() / math.log(2))
            stop_if_lost(losses, record, records)
            if any(before_it < report <= share for report in REPORTS):
                model = evaluated(state)
                record["held_out_bits"] = float(bits_per_character(model, held_out, before, pieces=16))
                record["sample"] = write(model, text.vocabulary, opening(text.vocabulary), options)
            record["seconds"] = position.seconds = budget.elapsed
            records.append(record)
            log(records)
            if "sample" in record:
                show(record)
                with told_if_full(folder):
                    leave(folder, model, text.vocabulary, sizes, records)
            if saver.due():
                saver.save(state, position)
        saver.stop_if_asked(state, position)
        saver.save(state, position, wait=True)
    # From here on everything follows from that checkpoint: what fails now is made good by --resume.
    model = evaluated(state)
    bits = float(bits_per_character(model, held_out, before))
    leave(folder, model, text.vocabulary, sizes, records)
    curves(records, folder / "curves.png")
    last = {name: value for name, value in records[-1].items() if name not in ("share", "sample")}
    result = {"bits_per_character": bits, "parameters": parameters, **last}
    with replacing(folder / "result.json") as beside:
        beside.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(
        f"{bits:.3f} bits per character on the held-out end, the state carried from its first character to its last, "
        f"after {last['epochs']:.1f} passes in {clock(last['seconds'])}; the model and samples are in {folder.path}"
    )


def checkpoints_of(options: Options, folder: train.RunFolder) -> train.Checkpoints:
    """Checkpoints in the run folder that belong to these options."""
    return train.Checkpoints(
        folder / "checkpoints",
        resume=options.resume is not None,
        seconds=options.checkpoint_seconds,
        config=kept(options, FREE),
    )


def identity_of(text: Text) -> dict[str, str]:
    """What tells the text from any other, wherever it lies."""
    return {"text": identity((text.train, text.held_out)), "characters": text.vocabulary.characters}


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


def stop_if_lost(losses: np.ndarray, record: Record, records: list[Record]) -> None:
    """Raises where a loss is not finite: from there on there is nothing left to train."""
    if not np.isfinite(losses).all():
        raise train.loop.NonFiniteLossError(
            f"the loss became {losses[~np.isfinite(losses)][0]} before step {record['step']}, and training stopped; "
            "try a lower --learning-rate or --clip",
            epoch=int(record["epochs"]) + 1,
            step=int(record["step"]),
            history=records,
        )


def evaluated(state: train.TrainState) -> LanguageModel:
    """The language model of a training state, in evaluation mode."""
    model = state.model().model
    model.eval()
    return model


def check_sampling(options: Options) -> None:
    """Raises where nothing could be written with these options."""
    expect_counts(options, "length", "top_k")
    expect_counts(options, "seed", least=0)
    heat, share = options.temperature, options.top_p
    hint = "a finite positive number; --top-k 1 always writes the most likely character"
    expect("temperature", heat, 0 < heat < math.inf, hint)
    expect("top_p", share, share is None or 0 < share <= 1, "a probability above 0, at most 1")


def write(model: LanguageModel, vocabulary: Vocabulary, prompt: str, options: Options) -> str:
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


if __name__ == "__main__":
    run(main, Options, __doc__)
