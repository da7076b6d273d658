"""A character language model: an LSTM learns to write, by truncated back-propagation through time with carried state.

    python -m experiments.char_lm
    python -m experiments.char_lm --text my_book.txt --minutes 14
    python -m experiments.char_lm --text my_book.txt --epochs 16 --layers 2 --dropout 0.5 --learning-rate 3e-3
    python -m experiments.char_lm --resume runs/char_lm
    python -m experiments.char_lm --generate "The " --run runs/char_lm --temperature 0.8

Learns the text inside CPython (its language reference) or any UTF-8 file, and is judged by bits per character on the
last tenth, which it never trains on. Leaves config.json, metrics.jsonl, curves.png, samples.txt, result.json and the
model in the run folder: model.safetensors, and model.jaxprogram, which `python -m experiments.serve` reads.

Every minute it saves a checkpoint there, and at the end, and when Ctrl-C or SIGTERM stops it; --resume goes on from the
last one. With --epochs the model is then, bit for bit, that of a run that never stopped; with --minutes it trains for
the minutes that were left.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import optax
from flax import nnx

from experiments import model_file
from experiments.char_report import check_sampling, curves, evaluated, export, leave, write
from experiments.char_training import Budget, Segments, bits_per_character
from experiments.cli.checks import as_typed, expect, expect_counts, expect_numbers, expect_share
from experiments.cli.command import run
from experiments.cli.options import folder_of, kept, to_resume
from experiments.data.text import Text, read
from jaxnn import train
from jaxnn.models import LanguageModel
from jaxnn.train.checkpoint.fingerprint import identity
from jaxnn.train.run.progress import clock


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
    profile: bool = False
    """Write a trace of one segment to profile/ in the run folder, for Perfetto and XProf."""
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


FREE = ("run", "resume", "checkpoint_seconds", "profile", "text", "generate", "length", "temperature", "top_k", "top_p")
"""Options that a run may change when it goes on; the text may lie elsewhere, but not be another one."""


def main(options: Options) -> None:
    """Trains a model, or lets one write."""
    if options.generate is None:
        learn(options)
    elif options.resume is not None:
        raise ValueError("--resume trains on, --generate writes with the model in --run; give one of them")
    else:
        model, vocabulary = model_file.load(options.run / "model.safetensors")
        print(options.generate + write(model, vocabulary, options.generate, options))


def learn(options: Options) -> None:
    """Trains a model on a text, shows how it comes on, saves it, and judges it on the held-out end."""
    expect_counts(options, "layers", "hidden", "embed", "streams", "chunk", "segment")
    seconds, clip = options.checkpoint_seconds, options.clip
    expect("restart", options.restart, 0 <= options.restart <= 1, "a chance from 0 to 1")
    expect_share(options, "dropout")
    expect("checkpoint_seconds", seconds, seconds >= 0, "a number that is not negative")
    expect("clip", clip, clip > 0, "a positive number")
    expect_numbers(options, "learning_rate", "weight_decay")
    check_sampling(options)  # now, not when the first sample is due
    if options.resume is not None:
        to_resume(options.resume)  # a folder that is not there is told before anything is loaded
    text = read(options.text)
    with as_typed(streams="--streams", length="--chunk"):
        per_epoch = train.loop.TBPTT(text.train, options.streams, options.chunk).steps
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
    state = train.create_state(train.loop.Stateful(model, options.streams), tx, jax.random.key(options.seed))
    folder = folder_of(options)
    parameters = optax.tree.size(state.params)
    print(
        f"an LSTM with {parameters:,} parameters on {text.name}: {len(text.train):,} characters to train on, "
        f"{len(text.held_out):,} held out, {len(text.vocabulary)} different ones; {jax.devices()[0].device_kind}",
        flush=True,
    )
    program = Segments(options, text, sizes, budget, per_epoch, folder)
    state, records = train.loop.drive(
        program,
        state,
        run=folder,
        checkpoints=checkpoints_of(options, folder),
        identity=identity_of(text),
        profile=folder / "profile" if options.profile else None,
    )
    # From here on everything follows from that checkpoint: what fails now is made good by --resume.
    model = evaluated(state)
    bits = float(bits_per_character(model, program.held_out, program.before))
    leave(folder, model, text.vocabulary, sizes, records)
    export(folder, state, text)
    curves(records, folder / "curves.png")
    last = {name: value for name, value in records[-1].items() if name not in ("share", "sample")}
    result = {"bits_per_character": bits, "parameters": parameters, **last}
    folder.write_json("result.json", result)
    print(
        f"{bits:.3f} bits per character on the held-out end, the state carried from its first character to its last, "
        f"after {last['epochs']:.1f} passes in {clock(last['seconds'])}; the model and samples are in {folder.path}"
    )


def checkpoints_of(options: Options, folder: train.RunFolder) -> train.Checkpoints:
    """Checkpoints in the run folder that belong to these options."""
    return train.Checkpoints(
        folder / "checkpoints",
        every=None,
        resume=options.resume is not None,
        seconds=options.checkpoint_seconds,
        config=kept(options, FREE),
    )


def identity_of(text: Text) -> dict[str, str]:
    """What tells the text from any other, wherever it lies."""
    return {"text": identity((text.train, text.held_out)), "characters": text.vocabulary.characters}


if __name__ == "__main__":
    run(main, Options, __doc__)
