"""An encoder and a decoder with attention learn to translate dates of many forms to ISO form.

    python -m experiments.seq2seq
    python -m experiments.seq2seq --read "the 29th of Feb 2024" "7/4/'76" --run runs/seq2seq-read

Every tenth day is held out of training in all forms; some combinations of day, month and order are held out on all
days. Reports the fraction of dates that are correct to the last character, by greedy and by beam search. Writes
attention.png, which shows the characters that the decoder attends to as it writes each output character.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.data import dates
from experiments.data.dates import END, ISO_LENGTH, START, Dates
from jaxnn import cli, plots, train
from jaxnn.modules import Decoder, Encoder


@dataclasses.dataclass(frozen=True)
class Options(cli.Cosine):
    """How to train."""

    examples: cli.Count = 20_000
    """Dates to train on."""
    tests: cli.Count = 2_000
    """Held-out dates to test on, once in the forms of training and once in other forms."""
    epochs: cli.Count = 5
    batch_size: cli.Count = 64
    hidden: cli.Count = 64
    """Hidden units of the encoder in each direction, and of the decoder."""
    embed: cli.Count = 32
    """Size of a character's embedding."""
    dropout: cli.Share = 0.1
    """Dropout of the embeddings."""
    learning_rate: cli.Number = 4e-3
    beams: cli.Count = 4
    """Width of the beam search."""
    read: tuple[str, ...] = ()
    """Your dates, to read after training and show in attention.png."""
    run: Path = Path("runs/seq2seq")


class DateReader(nnx.Module):
    """A bidirectional LSTM reads a date; another, attending over it, writes the ISO form."""

    def __init__(self, options: Options, rngs: nnx.Rngs) -> None:
        sizes: Any = {"embed_features": options.embed, "hidden_features": options.hidden, "dropout": options.dropout}
        self.encoder = Encoder(len(dates.READ) + 3, **sizes, return_state=True, rngs=rngs)
        memory = self.encoder.out_features
        self.decoder = Decoder(len(dates.WRITTEN) + 3, **sizes, memory_features=memory, rngs=rngs)

    def __call__(self, batch: Dates) -> jax.Array:
        """Teacher forcing: the logits of each next character, `(batch, 11, vocabulary)`."""
        logits, _ = self.decoder(jnp.asarray(batch.written[:, :-1]), self.encode(batch.read, batch.lengths))
        return logits

    def encode(self, read: Any, lengths: Any) -> Any:
        """Encodes the dates that are read."""
        return self.encoder(jnp.asarray(read), lengths=lengths)

    def write(self, read: np.ndarray, lengths: np.ndarray, **search: Any) -> np.ndarray:
        """The ISO forms of the dates that are read, by `method="greedy"` or `"beam"`: tokens `(n, 11)`."""
        limits: Any = {"start": START, "end": END, "max_length": ISO_LENGTH + 1}

        def generate(model: DateReader, read: Any, lengths: Any) -> jax.Array:
            return model.decoder.generate(model.encode(read, lengths), **limits, **search).tokens

        tokens = np.asarray(train.jit(generate)(self, read, lengths))
        return tokens[:, 0] if tokens.ndim == 3 else tokens  # the best beam


def loss_fn(model: DateReader, batch: Dates, key: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The cross-entropy of the characters, a mean for each date.

    Greedy search writes a date exactly if each of its characters is the most probable one after the true characters
    before it, so the accuracy is that of greedy search.
    """
    logits, targets = model(batch), batch.written[:, 1:]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return losses.mean(-1), {"accuracy": jnp.all(jnp.argmax(logits, -1) == targets, axis=-1)}


def main(options: Options) -> None:
    """Trains, evaluates on held-out dates, and draws the attention."""
    cli.check_run(options)
    own, own_lengths = dates.encode(list(options.read))
    trained, unseen = dates.forms()
    examples, _ = dates.generate(options.examples, trained, options.seed, test=False)
    tests = {
        "forms that were trained on": dates.generate(options.tests, trained, options.seed + 1, test=True),
        "forms never seen": dates.generate(options.tests, unseen, options.seed + 2, test=True),
    }
    (seen, seen_texts), (_, new_texts) = tests.values()
    steps = cli.steps_of(options.epochs, options.examples, options.batch_size)
    tx = train.optimizer("adam", options.learning_rate, steps=steps, schedule="cosine", clip_norm=1.0)
    state = train.create_state(DateReader(options, nnx.Rngs(options.seed)), tx, jax.random.key(options.seed))
    work: dict[str, Any] = {"data": examples, "loss_fn": loss_fn, "test_data": seen}
    work |= {"epochs": options.epochs, "batch_size": options.batch_size}
    parameters = optax.tree.size(state.params)
    print(
        f"encoder and decoder with {parameters:,} parameters; {options.examples:,} dates in {len(trained)} forms to "
        f"train on; {options.tests:,} held out, and as many in {len(unseen)} forms never seen; "
        f"{jax.devices()[0].device_kind}"
    )
    if options.dry_run:
        cli.dry_run(options, lambda: state, **work)
        return
    folder = cli.folder_of(options)
    state, history = train.fit(state, **work, **cli.keeping(options, folder, free=("read", "beams")))

    model = state.model()
    model.eval()
    result: dict[str, Any] = {"seconds": sum(record["seconds"] for record in history), "parameters": parameters}
    beam = {"method": "beam", "beams": options.beams}
    for name, (batch, texts) in tests.items():
        for search in ({"method": "greedy"}, beam):
            written = model.write(batch.read, batch.lengths, **search)
            right, method = (written == batch.written[:, 1:]).all(-1), search["method"]
            result[f"{method}, {name}"] = float(right.mean())
            print(f"{method:>6} search, held-out dates in {name}: {right.mean():.2%} right to the last character")
            for row in np.flatnonzero(~right)[:3]:
                true = dates.decode(batch.written[row, 1:])
                print(f"        {texts[row]} -> {dates.decode(written[row])}, is {true}")
    if options.read:
        for text, row in zip(options.read, model.write(own, own_lengths, **beam), strict=True):
            print(f"        {text} -> {dates.decode(row)}")
    texts = [*options.read, *seen_texts[:3], *new_texts[:3]][:6]  # your dates first
    draw(model, texts, len(options.read) + len(seen_texts[:3]), folder / "attention.png")
    folder.write_json("result.json", result)
    print(f"the attention heat map and numbers are in {folder.path}")


def draw(model: DateReader, texts: list[str], known: int, path: Path) -> None:
    """Draws the attention of each written to each read character; texts after the first `known` are in unseen forms."""
    read, lengths = dates.encode(texts)
    tokens = model.write(read, lengths, method="greedy")
    before = np.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=START)
    weights = np.asarray(model.decoder.attention_weights(jnp.asarray(before), model.encode(read, lengths)))
    made = [dates.decode(row) for row in tokens]
    maps = [each[: len(to), : len(of)] for each, to, of in zip(weights, made, texts, strict=True)]
    notes = [f"{of}  →  {to}" for of, to in zip(texts, made, strict=True)]
    notes[known:] = [f"{note}  (a form never seen)" for note in notes[known:]]
    plots.attention(maps, path, texts, made, titles=notes)


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
