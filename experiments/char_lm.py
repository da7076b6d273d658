"""A character language model: an LSTM learns to write, by truncated back-propagation through time with carried state.

    python -m experiments.char_lm
    python -m experiments.char_lm --text my_book.txt --minutes 14
    python -m experiments.char_lm --text my_book.txt --epochs 16 --layers 2 --dropout 0.5 --learning-rate 3e-3
    python -m experiments.char_lm --resume runs/char_lm
    python -m experiments.char_lm --generate "The " --run runs/char_lm --temperature 0.8

The text is any UTF-8 file, by default the language reference inside CPython. The last tenth is held out; bits per
character are measured on it. Writes config.json, metrics.jsonl, curves.png, samples.txt, result.json and the model to
the run folder: model.safetensors, and model.jaxprogram, which `python -m experiments.serve` reads.

With --epochs a resumed run ends with the same model, bit for bit, as an uninterrupted one; with --minutes it trains for
the remaining minutes.
"""

import dataclasses
import math
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.data.corpus import Text, encode, read
from jaxnn import cli, interop, plots, train
from jaxnn.files import replacing
from jaxnn.models import LanguageModel
from jaxnn.train.checkpoint.fingerprint import identity
from jaxnn.train.run import History, Record
from jaxnn.train.run.progress import clock

REPORTS = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
"""Shares of the run after which the model is evaluated on the held-out text and writes a sample."""
SAMPLING = ("length", "temperature", "top_k", "top_p")
WRITING = ("generate", "run", "seed", *SAMPLING)
"""Options of --generate."""
LONGEST_PROMPT = 10_000
HEAT = cli.Bound(
    "a finite positive number; --top-k 1 always writes the most likely character", lambda x: 0 < x < math.inf
)


@dataclasses.dataclass(frozen=True)
class Options(cli.Kept):
    """How to train, or what to write."""

    text: Path | None = None
    """A UTF-8 text to learn; without one, the text inside CPython (0.5 MB)."""
    minutes: cli.Positive | None = None
    """Minutes to train, on any machine: 4 by default, 14 with --text. Results differ from run to run."""
    epochs: cli.Positive | None = None
    """Train for this number of passes over the text instead; every run gives the same numbers."""
    layers: cli.Count = 1
    """LSTM layers."""
    hidden: cli.Count = 512
    """Hidden units of each layer."""
    embed: cli.Count = 64
    """Size of a character's embedding."""
    dropout: cli.Share = 0.3
    """Dropout between the layers and before the logits."""
    streams: cli.Count = 32
    """Parts of the text that are read in parallel: the batch."""
    chunk: cli.Count = 64
    """Characters of each stream in a step, and how far back gradients reach; the state is carried further."""
    restart: Annotated[float, cli.Bound("a chance from 0 to 1", lambda x: 0 <= x <= 1)] = 0.02
    """Probability that a stream's state is reset before a chunk, so that the model learns to start a text."""
    learning_rate: cli.Number = 4e-3
    """The highest learning rate of the schedule: a warm-up, then half a cosine."""
    weight_decay: cli.Number = 0.01
    """Decoupled weight decay of the weights (AdamW)."""
    clip: Annotated[float, cli.Bound("a positive number", lambda x: x > 0)] = 1.0
    """Largest norm of the gradient; a larger gradient is scaled down."""
    segment: cli.Count = 100
    """Steps per compiled program; the learning rate is planned one segment ahead."""
    run: Path = Path("runs/char_lm")
    """The run folder; if it exists, a number is added. With --generate: the folder of the model."""
    checkpoint_seconds: Annotated[float, cli.Bound("a number that is not negative", lambda x: x >= 0)] = 60.0
    """Seconds between checkpoints."""
    generate: str | None = None
    """Continue this text with the model in --run, instead of training."""
    length: cli.Count = 500
    """Characters to generate."""
    temperature: Annotated[float, HEAT] = 0.8
    """Temperature of sampling: below 1 favours likely characters, above 1 unlikely ones."""
    top_k: cli.Count | None = None
    """Sample only among this number of most likely characters."""
    top_p: Annotated[float, cli.Bound("a probability above 0, at most 1", lambda p: 0 < p <= 1)] | None = None
    """Sample only among the most likely characters that together have this probability."""

    @property
    def sizes(self) -> dict[str, Any]:
        """Arguments of `LanguageModel`, saved with its weights."""
        return {"embed_features": self.embed, "hidden_features": self.hidden, "layers": self.layers}


def main(options: Options) -> None:
    """Trains a model, or generates text with one."""
    if options.generate is None:
        learn(options)
        return
    cli.check(options)
    config, default = options.run / "config.json", Options()
    trained = train.run.load_config(config, default) if config.exists() else default  # what --config of the run gives
    for name in [field.name for field in dataclasses.fields(options) if field.name not in WRITING]:
        value, known = getattr(options, name), (getattr(default, name), getattr(trained, name))
        cli.expect(name, value, value in known, "nothing with --generate, which trains nothing; --run is its model")
    model, characters = load_model(options.run / "model.safetensors")
    print(options.generate + write(model, characters, options.generate, options))


def learn(options: Options) -> None:
    """Trains a model on a text with reports on the way, saves it, and evaluates it on the held-out end."""
    cli.check_run(options)
    text = read(options.text)
    with cli.as_typed(streams="--streams", length="--chunk"):
        data = train.loop.TBPTT(jnp.asarray(text.train), options.streams, options.chunk, options.restart)
        budget = budget_of(options, data.steps)
    model = LanguageModel(len(text.characters), **options.sizes, dropout=options.dropout, rngs=nnx.Rngs(options.seed))
    limits: Any = {"weight_decay": options.weight_decay, "clip_norm": options.clip}
    tx = train.optimizer("adamw", options.learning_rate, steps=1, **limits)
    state = train.create_state(train.loop.Stateful(model, options.streams), tx, jax.random.key(options.seed))
    folder = cli.folder_of(options)
    parameters = optax.tree.size(state.params)
    print(
        f"an LSTM with {parameters:,} parameters on {text.name}: {len(text.train):,} characters to train on, "
        f"{len(text.held_out):,} held out, {len(text.characters)} different ones; {jax.devices()[0].device_kind}",
        flush=True,
    )
    held_out, before = jnp.asarray(text.held_out), jnp.asarray(text.train[-1])
    opening = "\n" if "\n" in text.characters else text.characters[0]

    def report(state: train.TrainState) -> Record:
        """Evaluates on the held-out text, faster than at the end, and writes a sample."""
        model = evaluated(state)
        bits = float(train.loop.bits_per_token(model, held_out, before, pieces=16))
        return {"held_out_bits": bits, "sample": write(model, text.characters, opening, options)}

    step, rate = train.make_step(train.loop.next_token_loss), partial(train.loop.cosine, highest=options.learning_rate)
    reports: Any = {"report": report, "reports": REPORTS, "advice": "try a lower --learning-rate or --clip"}
    program = train.loop.Segments(step, data, budget, rate, segment=options.segment, **reports)
    the_text = {"text": identity((text.train, text.held_out)), "characters": text.characters}
    kept = cli.keeping(options, folder, free=("text", "generate", *SAMPLING))  # the same text may lie elsewhere
    kept |= {"sinks": [Shown(options, text, folder)], "identity": the_text}
    state, records = train.loop.drive(program, state, **kept)

    # All that follows is computed from the last checkpoint: --resume repeats it if it fails.
    bits = float(train.loop.bits_per_token(evaluated(state), held_out, before))
    leave(folder, state, text, options)
    export(folder, state, text)
    curves = [
        {"epoch": r["epochs"], "train_bits": r["train_loss"] / math.log(2), "test_bits": r.get("held_out_bits")}
        for r in records
    ]
    plots.compare({"bits per character": curves}, folder / "curves.png", ["train_bits", "test_bits"])
    last = {name: value for name, value in records[-1].items() if name not in ("share", "sample")}
    folder.write_json("result.json", {"bits_per_character": bits, "parameters": parameters, **last})
    print(
        f"{bits:.3f} bits per character on the held-out end, the state carried from its first character to its last, "
        f"after {last['epochs']:.1f} passes in {clock(last['seconds'])}; the model and samples are in {folder.path}"
    )


def budget_of(options: Options, steps: int) -> train.loop.Budget:
    epochs, minutes, most = options.epochs, options.minutes, cli.MOST // steps
    cli.expect("minutes", minutes, epochs is None or minutes is None, "nothing beside --epochs; give one of them")
    if epochs is None:
        return train.loop.Budget(seconds=60 * (minutes or (4.0 if options.text is None else 14.0)))
    cli.expect("epochs", epochs, epochs <= most, f"at most {most}, of {steps} steps each")
    return train.loop.Budget(steps=max(1, round(epochs * steps)))


class Shown:
    """A sink that prints reports and writes the model and all samples so far to the run folder."""

    def __init__(self, options: Options, text: Text, folder: train.RunFolder) -> None:
        self.options, self.text, self.folder = options, text, folder

    def __call__(self, record: Record, state: train.TrainState) -> None:
        """Prints a record with a report."""
        if "sample" not in record:
            return
        sample = ["    " + part for part in record["sample"].strip("\n").splitlines()[:6]]
        print("\n".join([line(record), *sample]), flush=True)
        try:
            leave(self.folder, state, self.text, self.options)
        except OSError as error:
            told = (
                f"model and samples could not be written to {self.folder.path} ({error.strerror}); training continues"
            )
            warnings.warn(f"{told}, and the next report writes them", train.checkpoint.CheckpointWarning, stacklevel=2)

    def resume(self, history: History) -> None:
        """Prints where the run resumes."""
        print(f"resumed after step {history[-1]['step']:,}", flush=True)


def leave(folder: train.RunFolder, state: train.TrainState, text: Text, options: Options) -> None:
    """Writes model.safetensors, and samples.txt with all samples."""
    about = {"characters": text.characters, "sizes": options.sizes}
    interop.save_weights(folder / "model.safetensors", evaluated(state), about=about)
    shown = [record for record in folder.metrics() if "sample" in record]
    with replacing(folder / "samples.txt") as beside:
        beside.write_text("".join(f"{line(r)}\n\n{r['sample']}\n\n" for r in shown), encoding="utf-8")


def line(record: Record) -> str:
    """Formats the progress and the scores of a record with a report."""
    return (
        f"{record['share']:4.0%}  step {record['step']:,}  {record['epochs']:.1f} passes  "
        f"train {record['train_loss'] / math.log(2):.3f}  held out {record['held_out_bits']:.3f} bits per character  "
        f"{clock(record['seconds'])}"
    )


def evaluated(state: train.TrainState) -> LanguageModel:
    model = state.model().model
    model.eval()
    return model


def write(model: LanguageModel, characters: str, prompt: str, options: Options) -> str:
    """Continues the prompt; the same seed gives the same text."""
    if not 0 < len(prompt) <= LONGEST_PROMPT:
        most = f"at least one character and at most {LONGEST_PROMPT:,} characters"
        raise ValueError(f"--generate: expected {most}, got {len(prompt):,}; give their end.")
    how = {name: getattr(options, name) for name in SAMPLING}
    tokens = _write(model, jnp.asarray(encode(prompt, characters)), jax.random.key(options.seed), **how)
    return "".join(characters[token] for token in np.asarray(tokens))


@partial(jax.jit, static_argnames=SAMPLING)
def _write(model: LanguageModel, prompt: jax.Array, key: jax.Array, *, length: int, **how: Any) -> jax.Array:
    return model.generate(prompt, key, max_length=length, **how).tokens


def load_model(path: Path) -> tuple[LanguageModel, str]:
    if not path.is_file():
        raise ValueError(f"--run: expected a folder with model.safetensors, got {path.parent}; train a model first.")
    try:
        about = interop.load_about(path)
        model = LanguageModel(len(about["characters"]), **about["sizes"], rngs=nnx.Rngs(0))
        model = interop.load_weights(path, model)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--run: expected a model of char_lm, got {path}, which is damaged: {error}") from error
    model.eval()
    return model, about["characters"]


def export(folder: train.RunFolder, state: train.TrainState, text: Text) -> None:
    """Writes model.jaxprogram: the model for texts of any length, and its step for single characters."""
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


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
