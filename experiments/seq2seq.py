"""An encoder and a decoder with attention learn to read dates written in many ways and to write them in ISO form.

    python -m experiments.seq2seq
    python -m experiments.seq2seq --read "the 29th of Feb 2024" "7/4/'76" --run runs/seq2seq-read

Every tenth day is kept out of training in all forms, and some combinations of day, month and order are kept out in all
days. Reports the share of dates that are right to the last character, by greedy and by beam search, and leaves
attention.png: which characters the decoder looks at while it writes each of those that it writes.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.data import dates
from experiments.data.dates import END, START, Dates
from jaxnn import cli, plots, train
from jaxnn.modules import Decoder, Encoder


@dataclasses.dataclass(frozen=True)
class Options(cli.Cosine):
    """How to train."""

    examples: cli.Count = 20_000
    """Dates to train on."""
    tests: cli.Count = 2_000
    """Held-out dates to judge by, once in the forms that were trained on and once in those that were not."""
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
    """Beginnings that beam search keeps."""
    read: tuple[str, ...] = ()
    """Dates of your own, read after training and shown in the heat map."""
    run: Path = Path("runs/seq2seq")


class DateReader(nnx.Module):
    """A bidirectional LSTM reads a date; another, attending over it, writes the ISO form."""

    def __init__(self, options: Options, rngs: nnx.Rngs) -> None:
        sizes: dict[str, Any] = {
            "embed_features": options.embed,
            "hidden_features": options.hidden,
            "dropout": options.dropout,
        }
        self.encoder = Encoder(len(dates.READ) + 3, **sizes, return_state=True, rngs=rngs)
        memory = self.encoder.out_features
        self.decoder = Decoder(len(dates.WRITTEN) + 3, **sizes, memory_features=memory, rngs=rngs)

    def __call__(self, batch: Dates) -> jax.Array:
        """Teacher forcing: the logits of each next character, `(batch, 11, vocabulary)`."""
        encoded = self.encoder(jnp.asarray(batch.read), lengths=batch.lengths)
        logits, _ = self.decoder(jnp.asarray(batch.written[:, :-1]), encoded)
        return logits


def loss_fn(model: DateReader, batch: Dates, key: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The cross-entropy of the characters, a mean for each date.

    A date whose characters are all the most probable ones after the true ones before them is what greedy search
    writes, so the accuracy is that of greedy search.
    """
    logits, targets = model(batch), batch.written[:, 1:]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return losses.mean(-1), {"accuracy": jnp.all(jnp.argmax(logits, -1) == targets, axis=-1)}


def main(options: Options) -> None:
    """Trains, judges on held-out dates, and draws where the decoder looks."""
    cli.check_run(options)
    steps = cli.steps_of(options.epochs, options.examples, options.batch_size)
    own, own_lengths = dates.encode(list(options.read), dates.LONGEST)
    trained, unseen = dates.forms()
    examples, _ = dates.generate(options.examples, trained, options.seed, test=False)
    tests = {
        "forms that were trained on": dates.generate(options.tests, trained, options.seed + 1, test=True),
        "forms never seen": dates.generate(options.tests, unseen, options.seed + 2, test=True),
    }
    tx = train.optimizer("adam", options.learning_rate, steps=steps, schedule="cosine", clip_norm=1.0)
    state = train.create_state(DateReader(options, nnx.Rngs(options.seed)), tx, jax.random.key(options.seed))
    held_out, _ = tests["forms that were trained on"]
    work: dict[str, Any] = {"data": examples, "loss_fn": loss_fn, "test_data": held_out}
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
    started = time.perf_counter()
    state, _ = train.fit(state, **work, **cli.keeping(options, folder, free=("read", "beams")))
    result: dict[str, Any] = {"seconds": time.perf_counter() - started, "parameters": parameters}

    model = state.model()
    model.eval()
    for name, (batch, texts) in tests.items():
        for method in ("greedy", "beam"):
            written = write(model, batch.read, batch.lengths, method, options.beams)
            right = (written == batch.written[:, 1:]).all(-1)
            result[f"{method}, {name}"] = float(right.mean())
            print(f"{method:>6} search, held-out dates in {name}: {right.mean():.2%} right to the last character")
            for row in np.flatnonzero(~right)[:3]:
                print(
                    f"        {texts[row]} -> {dates.decode(written[row])}, is {dates.decode(batch.written[row, 1:])}"
                )
    for text, row in zip(options.read, write(model, own, own_lengths, "beam", options.beams), strict=True):
        print(f"        {text} -> {dates.decode(row)}")

    (seen, seen_texts), (new, new_texts) = tests.values()
    read = np.concatenate([own, seen.read[:3], new.read[:3]])[:6]
    lengths = np.concatenate([own_lengths, seen.lengths[:3], new.lengths[:3]])[:6]
    texts = [*options.read, *seen_texts[:3], *new_texts[:3]][:6]
    notes = ["" if row < len(own) + len(seen_texts[:3]) else "  (a form never seen)" for row in range(len(texts))]
    draw(model, read, lengths, texts, notes, folder / "attention.png")
    folder.write_json("result.json", result)
    print(f"the attention heat map and numbers are in {folder.path}")


def write(model: DateReader, read: np.ndarray, lengths: np.ndarray, method: str, beams: int) -> np.ndarray:
    """Writes the dates that the model reads, by `"greedy"` or `"beam"` search: the best one's tokens, `(n, 11)`."""
    if not len(read):
        return np.zeros((0, dates.ISO_LENGTH + 1), np.int32)
    options: dict[str, Any] = {"beams": beams} if method == "beam" else {}

    @train.jit
    def generate(model: DateReader, read: jax.Array, lengths: jax.Array) -> jax.Array:
        encoded = model.encoder(read, lengths=lengths)
        return model.decoder.generate(
            encoded, start=START, end=END, max_length=dates.ISO_LENGTH + 1, method=method, **options
        ).tokens

    tokens = np.asarray(generate(model, read, lengths))
    return tokens[:, 0] if method == "beam" else tokens


def draw(
    model: DateReader, read: np.ndarray, lengths: np.ndarray, texts: list[str], notes: list[str], path: Path
) -> None:
    """Draws for each date how much each written character looked at each character that was read; notes stand below."""
    tokens = write(model, read, lengths, "greedy", 1)
    before = np.concatenate([np.full((len(read), 1), START, np.int32), tokens[:, :-1]], axis=1)
    encoded = model.encoder(jnp.asarray(read), lengths=lengths)
    weights = np.asarray(model.decoder.attention_weights(jnp.asarray(before), encoded))
    made = [dates.decode(row) for row in tokens]
    maps = [each[: len(to), : len(of)] for each, to, of in zip(weights, made, texts, strict=True)]
    titles = [f"{of}  →  {to}{note}" for of, to, note in zip(texts, made, notes, strict=True)]
    plots.attention(maps, path, texts, made, titles=titles)


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
