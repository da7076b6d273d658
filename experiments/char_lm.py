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
import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments import char_report as report
from experiments.data.text import Text, read
from jaxnn import cli, train
from jaxnn.models import LanguageModel
from jaxnn.train.checkpoint import Position
from jaxnn.train.checkpoint.fingerprint import identity
from jaxnn.train.run.progress import Progress, clock

REPORTS = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
"""After which shares of the run the held-out text is looked at and a sample is written."""

FREE = ("text", "generate", "length", "temperature", "top_k", "top_p")
"""Options that a resumed run may change beside the usual ones; the text may lie elsewhere, but not be another one."""


@dataclasses.dataclass(frozen=True)
class Options(report.Sampling):
    """How to train, or what to write."""

    text: Path | None = None
    """A UTF-8 text to learn; without one, the text inside CPython (0.5 MB)."""
    minutes: cli.Positive | None = None
    """How long to train, whatever the machine: 4 by default, 14 with --text. The schedule follows the clock, so no two
    runs are the same to the last bit."""
    epochs: cli.Positive | None = None
    """Train for this many passes over the text instead, in whole segments: the same numbers in every run."""
    layers: cli.Count = 1
    """LSTM layers."""
    hidden: cli.Count = 512
    """Hidden units of each layer."""
    embed: cli.Count = 64
    """Size of a character's embedding."""
    dropout: cli.Share = 0.3
    """Dropout between the layers and before the logits."""
    streams: cli.Count = 32
    """Parts of the text that are read side by side: the batch."""
    chunk: cli.Count = 64
    """Characters of each stream in a step: how far back gradients go. The state is carried further."""
    restart: Annotated[float, cli.Bound("a chance from 0 to 1", lambda x: 0 <= x <= 1)] = 0.02
    """The chance that a stream forgets its state before a chunk, so that the model learns to begin."""
    learning_rate: cli.Number = 4e-3
    """The highest learning rate of the run: it warms up, then falls as half a cosine."""
    weight_decay: cli.Number = 0.01
    """Decoupled weight decay of the weights (AdamW)."""
    clip: Annotated[float, cli.Bound("a positive number", lambda x: x > 0)] = 1.0
    """The longest gradient; longer ones are scaled down."""
    segment: cli.Count = 100
    """Steps in a compiled program; the learning rate is planned a segment ahead."""
    run: Path = Path("runs/char_lm")
    """The run folder; a number is added where it exists, nothing is overwritten. With --generate: where the model
    is."""
    checkpoint_seconds: Annotated[float, cli.Bound("a number that is not negative", lambda x: x >= 0)] = 60.0
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
        cli.check(options)
        model, characters = report.load_model(options.run / "model.safetensors")
        print(options.generate + report.write(model, characters, options.generate, options))


def learn(options: Options) -> None:
    """Trains a model on a text, shows how it comes on, saves it, and judges it on the held-out end."""
    cli.check_run(options)
    text = read(options.text)
    with cli.as_typed(streams="--streams", length="--chunk"):
        data = train.loop.TBPTT(jnp.asarray(text.train), options.streams, options.chunk, options.restart)
        steps = data.steps
    budget = budget_of(options, steps)
    model = LanguageModel(len(text.characters), **options.sizes, dropout=options.dropout, rngs=nnx.Rngs(options.seed))
    tx = train.optimizer(
        "adamw", options.learning_rate, steps=1, weight_decay=options.weight_decay, clip_norm=options.clip
    )
    state = train.create_state(train.loop.Stateful(model, options.streams), tx, jax.random.key(options.seed))
    folder = cli.folder_of(options)
    parameters = optax.tree.size(state.params)
    print(
        f"an LSTM with {parameters:,} parameters on {text.name}: {len(text.train):,} characters to train on, "
        f"{len(text.held_out):,} held out, {len(text.characters)} different ones; {jax.devices()[0].device_kind}",
        flush=True,
    )
    program = Lessons(options, text, data, budget, folder)
    the_text = {"text": identity((text.train, text.held_out)), "characters": text.characters}
    kept = cli.keeping(options, folder, free=FREE)
    state, records = train.loop.drive(program, state, identity=the_text, **kept)
    # From here on everything follows from that checkpoint: what fails now is made good by --resume.
    model = report.evaluated(state)
    bits = program.bits(model)
    report.leave(folder, model, text.characters, options.sizes, records)
    report.export(folder, state, text)
    report.curves(records, folder / "curves.png")
    last = {name: value for name, value in records[-1].items() if name not in ("share", "sample")}
    folder.write_json("result.json", {"bits_per_character": bits, "parameters": parameters, **last})
    print(
        f"{bits:.3f} bits per character on the held-out end, the state carried from its first character to its last, "
        f"after {last['epochs']:.1f} passes in {clock(last['seconds'])}; the model and samples are in {folder.path}"
    )


def budget_of(options: Options, steps: int) -> train.loop.Budget:
    """How long to train: `--epochs` of this number of steps, or `--minutes`."""
    epochs, minutes, most = options.epochs, options.minutes, cli.MOST // steps
    cli.expect("minutes", minutes, epochs is None or minutes is None, "nothing beside --epochs; give one of them")
    if epochs is None:
        return train.loop.Budget(seconds=60 * (minutes or (4.0 if options.text is None else 14.0)))
    cli.expect("epochs", epochs, epochs <= most, f"at most {most}, of {steps} steps each")
    return train.loop.Budget(steps=max(1, round(epochs * steps)))


class Lessons(train.loop.Segments):
    """The training, in segments of steps: at some shares of the run it reads the held-out text and writes a sample."""

    def __init__(
        self, options: Options, text: Text, data: train.loop.TBPTT, budget: train.loop.Budget, folder: train.RunFolder
    ) -> None:
        rate = partial(train.loop.cosine, highest=options.learning_rate)
        advice = "try a lower --learning-rate or --clip"
        step = train.make_step(train.loop.next_token_loss)
        super().__init__(step, data, budget, rate, segment=options.segment, advice=advice)
        self._options, self._characters, self._folder = options, text.characters, folder
        self._held_out, self._before = jnp.asarray(text.held_out), jnp.asarray(text.train[-1])

    def resume(self, state: train.TrainState, position: Position, display: Progress) -> None:
        """Says where the run continues."""
        print(f"resumed after step {int(state.step):,}", flush=True)
        super().resume(state, position, display)

    def record(self, state: train.TrainState, metrics: Any, seconds: float, position: Position) -> report.Record:
        """Makes the record; at some shares of the run with a sample, and with what the held-out text says."""
        before = position.history[-1]["share"] if position.history else 0.0
        record = super().record(state, metrics, seconds, position)
        del record["train_loss"]
        record["train_bits"] = float(metrics["loss"].mean() / math.log(2))
        if any(before < share <= self.share for share in REPORTS):
            model = report.evaluated(state)
            record["held_out_bits"] = self.bits(model, pieces=16)
            record["sample"] = report.write(model, self._characters, report.opening(self._characters), self._options)
        record["seconds"] = position.seconds = self.budget.elapsed  # with the report
        return record

    def bits(self, model: LanguageModel, pieces: int = 1) -> float:
        """Bits per character of the held-out text."""
        return float(train.loop.bits_per_token(model, self._held_out, self._before, pieces=pieces))

    def check(self, state: train.TrainState, history: list[report.Record]) -> None:
        """Shows and writes a report."""
        if "sample" in history[-1]:
            report.show(history[-1])
            with report.told_if_full(self._folder):
                report.leave(self._folder, report.evaluated(state), self._characters, self._options.sizes, history)


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
