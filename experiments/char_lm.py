"""A character language model: an LSTM learns to write, by truncated back-propagation through time with carried state.

    python -m experiments.char_lm
    python -m experiments.char_lm --text my_book.txt --minutes 14
    python -m experiments.char_lm --text my_book.txt --epochs 16 --layers 2 --dropout 0.5 --learning-rate 3e-3
    python -m experiments.char_lm --resume runs/char_lm
    python -m experiments.char_lm --generate "The " --run runs/char_lm --temperature 0.8

Learns the text inside CPython (its language reference) or any UTF-8 file, and is judged by bits per character on the
last tenth, which it never trains on. Leaves config.json, metrics.jsonl, curves.png, samples.txt, result.json and the
model in the run folder: model.safetensors, and model.jaxprogram, which `python -m experiments.serve` reads.

Every minute it saves a checkpoint there, and at the end, and when Ctrl-C or SIGTERM stops it; --resume continues from
the last one. With --epochs the model is then, bit for bit, that of a run that never stopped; with --minutes it trains
for the minutes that were left.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments.char_report import Sampling, curves, evaluated, export, leave, load_model, write
from experiments.char_training import Budget, Segments, bits_per_character
from experiments.cli.checks import Bound, Count, Number, Positive, Share, as_typed, check
from experiments.cli.command import run
from experiments.cli.options import check_run, folder_of, keeping
from experiments.data.text import read
from jaxnn import train
from jaxnn.models import LanguageModel
from jaxnn.train.checkpoint.fingerprint import identity
from jaxnn.train.run.progress import clock

FREE = ("text", "generate", "length", "temperature", "top_k", "top_p")
"""Options that a resumed run may change beside the usual ones; the text may lie elsewhere, but not be another one."""


@dataclasses.dataclass(frozen=True)
class Options(Sampling):
    """How to train, or what to write."""

    text: Path | None = None
    """A UTF-8 text to learn; without one, the text inside CPython (0.5 MB)."""
    minutes: Positive | None = None
    """How long to train, whatever the machine: 4 by default, 14 with --text. The schedule follows the clock, so no two
    runs are the same to the last bit."""
    epochs: Positive | None = None
    """Train for this many passes over the text instead, in whole segments: the same numbers in every run."""
    layers: Count = 1
    """LSTM layers."""
    hidden: Count = 512
    """Hidden units of each layer."""
    embed: Count = 64
    """Size of a character's embedding."""
    dropout: Share = 0.3
    """Dropout between the layers and before the logits."""
    streams: Count = 32
    """Parts of the text that are read side by side: the batch."""
    chunk: Count = 64
    """Characters of each stream in a step: how far back gradients go. The state is carried further."""
    restart: Annotated[float, Bound("a chance from 0 to 1", lambda x: 0 <= x <= 1)] = 0.02
    """The chance that a stream forgets its state before a chunk, so that the model learns to begin."""
    learning_rate: Number = 4e-3
    """The highest learning rate of the run: it warms up, then falls as half a cosine."""
    weight_decay: Number = 0.01
    """Decoupled weight decay of the weights (AdamW)."""
    clip: Annotated[float, Bound("a positive number", lambda x: x > 0)] = 1.0
    """The longest gradient; longer ones are scaled down."""
    segment: Count = 100
    """Steps in a compiled program; the learning rate is planned a segment ahead."""
    run: Path = Path("runs/char_lm")
    """The run folder; a number is added where it exists, nothing is overwritten. With --generate: where the model
    is."""
    checkpoint_seconds: Annotated[float, Bound("a number that is not negative", lambda x: x >= 0)] = 60.0
    """Seconds from one checkpoint to the next."""
    generate: str | None = None
    """Write on from this beginning, with the model in --run, instead of training."""

    @property
    def sizes(self) -> dict[str, Any]:
        """The arguments of `LanguageModel`."""
        return {"embed_features": self.embed, "hidden_features": self.hidden, "layers": self.layers}


def main(options: Options) -> None:
    """Trains a model, or lets one write."""
    if options.generate is None:
        learn(options)
    elif options.resume is not None:
        raise ValueError(
            f"--resume: expected nothing with --generate, got {options.resume}; --run is where the model is."
        )
    else:
        check(options)
        model, characters = load_model(options.run / "model.safetensors")
        print(options.generate + write(model, characters, options.generate, options))


def learn(options: Options) -> None:
    """Trains a model on a text, shows how it comes on, saves it, and judges it on the held-out end."""
    check_run(options)
    text = read(options.text)
    with as_typed(streams="--streams", length="--chunk"):
        data = train.loop.TBPTT(jnp.asarray(text.train), options.streams, options.chunk, options.restart)
        steps = data.steps
    usual = 4.0 if options.text is None else 14.0
    budget = Budget.of(epochs=options.epochs, minutes=options.minutes, steps_per_epoch=steps, usual_minutes=usual)
    model = LanguageModel(len(text.characters), **options.sizes, dropout=options.dropout, rngs=nnx.Rngs(options.seed))
    tx = train.optimizer(
        "adamw", options.learning_rate, steps=1, weight_decay=options.weight_decay, clip_norm=options.clip
    )
    state = train.create_state(train.loop.Stateful(model, options.streams), tx, jax.random.key(options.seed))
    folder = folder_of(options)
    parameters = optax.tree.size(state.params)
    print(
        f"an LSTM with {parameters:,} parameters on {text.name}: {len(text.train):,} characters to train on, "
        f"{len(text.held_out):,} held out, {len(text.characters)} different ones; {jax.devices()[0].device_kind}",
        flush=True,
    )
    program = Segments(options, text, data, budget, folder)
    the_text = {"text": identity((text.train, text.held_out)), "characters": text.characters}
    kept = keeping(options, folder, free=FREE)
    state, records = train.loop.drive(program, state, identity=the_text, **kept)
    # From here on everything follows from that checkpoint: what fails now is made good by --resume.
    model = evaluated(state)
    bits = float(bits_per_character(model, program.held_out, program.before))
    leave(folder, model, text.characters, options.sizes, records)
    export(folder, state, text)
    curves(records, folder / "curves.png")
    last = {name: value for name, value in records[-1].items() if name not in ("share", "sample")}
    folder.write_json("result.json", {"bits_per_character": bits, "parameters": parameters, **last})
    print(
        f"{bits:.3f} bits per character on the held-out end, the state carried from its first character to its last, "
        f"after {last['epochs']:.1f} passes in {clock(last['seconds'])}; the model and samples are in {folder.path}"
    )


if __name__ == "__main__":
    run(main, Options, __doc__)
