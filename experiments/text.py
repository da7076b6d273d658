"""An LSTM classifies texts, by default the language of a sentence; compared with bags of words and of letters.

    python -m experiments.text
    python -m experiments.text --data-dir aclImdb --tokens words --length 400
    python -m experiments.text --data-dir reviews.csv --tokens words --pooling mean

By default the texts are Django's messages in 23 languages (`jaxnn.data.load_languages`), half of which have fewer than
30 letters. Whole documents are held out: the parts `auth` and `admindocs`. The default options were chosen with `admin`
held out instead. `--data-dir` reads your texts (`jaxnn.data.load_texts`).

The network: an embedding of characters or words, a bidirectional LSTM, the mean over its outputs weighted by attention
(or not, `--pooling mean`), dropout, a dense layer. A training step uses a random piece of each text (`--crop`) with
some tokens unknown. The baselines, hard to beat with few texts, are logistic regression on TF-IDF of words and, if the
network reads characters, of one to three letters within a word.

Writes config.json, metrics.jsonl, result.json, curves.png, confusion.png, and words.png, which shows how much each
piece of a text contributes.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnn import cli, data, inspect, models, plots, train
from jaxnn.data import TextDataset, Vocabulary
from jaxnn.train.step import Preprocess


@dataclasses.dataclass(frozen=True)
class Options(cli.Cosine):
    """Options of the text classifier."""

    data_dir: Path | None = None
    """A folder with one sub-folder of texts per class, also `train` and `test` of these, or a CSV file."""
    test_fraction: cli.Share = 0.2
    """Fraction of the documents of --data-dir to hold out, if it has no folder `test`."""
    tokens: Literal["characters", "words"] = "characters"
    """The tokens that the network reads."""
    length: cli.Count = 40
    """Tokens of a text that it reads; the rest is cut off."""
    embed: cli.Count = 32
    """Size of an embedding."""
    hidden: cli.Count = 64
    """Hidden units of the LSTM in each direction."""
    pooling: Literal["attention", "mean"] = "attention"
    """How the LSTM's outputs are weighted before the dense layer."""
    crop: Annotated[float, cli.Bound("a number above 0, at most 1", lambda x: 0 < x <= 1)] = 0.4
    """Smallest fraction of a training text that a step uses, as a random piece; 1 uses the whole text."""
    unknown: cli.Share = 0.05
    """Probability that a token of a training text is replaced by the unknown token."""
    dropout: cli.Share = 0.1
    """Rate of dropout of the embeddings and before the dense layer."""
    epochs: cli.Count = 24
    batch_size: cli.Count = 64
    learning_rate: cli.Number = 2e-2
    run: Path = Path("runs/text")


class Batch(NamedTuple):
    """Texts as arrays: tokens `(texts, length)`, how many of each row count, and the classes."""

    tokens: Any
    lengths: Any
    labels: Any


def main(options: Options) -> None:
    """Trains the network and compares it with bags of words and letters."""
    cli.check_run(options)
    if options.data_dir is None:
        cli.unused(options, "test_fraction", because="without --data-dir; the sentences to test by are fixed")
    with cli.as_typed(path="--data-dir", test_fraction="--test-fraction"):
        split: Any = {"test_fraction": options.test_fraction, "seed": options.seed}
        texts = data.load_texts(options.data_dir, **split) if options.data_dir else data.load_languages()
    vocabulary = Vocabulary.of(texts.train.texts, options.tokens)
    # Pieces of a longer text are shown than are read at once.
    learned = Batch(*vocabulary.encode(texts.train.texts, 2 * options.length), texts.train.labels)
    held_out = Batch(*vocabulary.encode(texts.test.texts, options.length), texts.test.labels)

    sizes: dict[str, Any] = {"embed_features": options.embed, "hidden_features": options.hidden}
    sizes |= {"pooling": options.pooling, "dropout": options.dropout}
    model = models.TextClassifier(len(vocabulary), len(texts.classes), **sizes, rngs=nnx.Rngs(options.seed))
    steps = cli.steps_of(options.epochs, len(learned.labels), options.batch_size)
    tx = train.optimizer("adam", options.learning_rate, steps=steps, schedule="cosine", clip_norm=1.0)
    state = train.create_state(model, tx, jax.random.key(options.seed))
    work: dict[str, Any] = {"data": learned, "test_data": held_out, "preprocess": pieces(options)}
    work |= {"loss_fn": train.losses.classification(apply_fn=logits)}
    work |= {"epochs": options.epochs, "batch_size": options.batch_size}
    if options.dry_run:
        cli.dry_run(options, lambda: state, **work)
        return
    folder = cli.folder_of(options)
    parameters = optax.tree.size(state.params)
    cut = np.mean([len(vocabulary.split(text)) > options.length for text in texts.test.texts])
    print(
        f"TextClassifier with {parameters:,} parameters on {texts.name}: {len(texts.classes)} classes, "
        f"{len(learned.labels):,} texts to train on, {len(held_out.labels):,} held out ({cut:.0%} of them longer than "
        f"--length); {len(vocabulary):,} {options.tokens}; {jax.devices()[0].device_kind}"
    )
    state, history = train.fit(state, **work, **cli.keeping(options, folder))

    seconds = sum(record["seconds"] for record in history)
    predicted = {"LSTM": np.asarray(train.predict(state, held_out, logits)).argmax(-1)}
    print("fitting the baselines ...", flush=True)
    predicted |= bags(texts, letters=options.tokens == "characters")
    scores = {name: score(held_out.labels, guess) for name, guess in predicted.items()}
    for name, each in scores.items():
        print(f"{name:>30}: {each['accuracy']:.2%} right, macro F1 {each['macro_f1']:.3f}")
    plots.confusion(held_out.labels, predicted["LSTM"], folder / "confusion.png", texts.classes)
    draw(state, vocabulary, texts, held_out, predicted["LSTM"], folder / "words.png")
    folder.write_json("result.json", {"seconds": seconds, "parameters": parameters, "scores": scores})
    print(f"after {seconds:.0f} s; pictures and numbers are in {folder.path}")


def pieces(options: Options) -> Preprocess:
    """Augments training texts: a random piece of each, with some tokens unknown, so that none is learned by heart."""

    def cut(key: jax.Array | None, batch: Any) -> Any:
        if key is None:
            return batch
        shares, starts, drops = jax.random.split(key, 3)
        most = jnp.minimum(batch.lengths, options.length)
        share = jax.random.uniform(shares, most.shape, minval=options.crop)
        lengths = jnp.ceil(share * most).astype(most.dtype)
        start = jnp.floor(jax.random.uniform(starts, most.shape) * (batch.lengths - lengths + 1)).astype(most.dtype)
        places = jnp.arange(options.length)[None]
        tokens = jnp.take_along_axis(batch.tokens, start[:, None] + places, axis=1, mode="clip")
        tokens = jnp.where(jax.random.bernoulli(drops, options.unknown, tokens.shape), Vocabulary.UNKNOWN, tokens)
        return Batch(jnp.where(places < lengths[:, None], tokens, Vocabulary.PADDING), lengths, batch.labels)

    return cut


def logits(model: Any, batch: Any) -> jax.Array:
    return model(batch.tokens, lengths=batch.lengths)


def bags(texts: TextDataset, *, letters: bool) -> dict[str, np.ndarray]:
    """Classifies the held-out texts by logistic regression on TF-IDF, for each kind of bag."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    bag = {"bag of words": TfidfVectorizer(sublinear_tf=True)}
    if letters:
        bag["bag of one to three letters"] = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True)
    labels, predicted = texts.train.labels, {}
    for name, vectorizer in bag.items():
        regression = LogisticRegression(C=10.0, max_iter=300).fit(vectorizer.fit_transform(texts.train.texts), labels)
        predicted[name] = regression.predict(vectorizer.transform(texts.test.texts))
    return predicted


def score(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import f1_score

    f1 = f1_score(labels, predicted, average="macro", zero_division=0)
    return {"accuracy": float(np.mean(labels == predicted)), "macro_f1": float(f1)}


def draw(
    state: train.TrainState, vocabulary: Vocabulary, texts: TextDataset, held_out: Batch, guess: np.ndarray, path: Path
) -> None:
    """Draws held-out texts of every class, about half as long as --length, with the tokens that decided."""
    far, names = np.abs(held_out.lengths - held_out.tokens.shape[1] // 2), texts.classes
    order = np.argsort(far, kind="stable")
    of_class = [order[held_out.labels[order] == label] for label in range(min(24, len(names)))]
    rows = np.concatenate([own[: max(1, 12 // len(names))] for own in of_class])
    tokens, lengths, labels = (each[rows] for each in held_out)
    model = state.model()
    model.eval()
    read = train.jit(lambda tokens, lengths: model(tokens, lengths=lengths))
    parts = inspect.occlusion(read, tokens, lengths, replacement=vocabulary.UNKNOWN)
    plots.highlights(
        [vocabulary.split(texts.test.texts[row])[:n] for row, n in zip(rows, lengths, strict=True)],
        [part[:n] for part, n in zip(np.asarray(parts), lengths, strict=True)],
        path,
        names=[
            names[true] if true == said else f"{names[true]}, taken for {names[said]}"
            for true, said in zip(labels, guess[rows], strict=True)
        ],
        wrong=list(guess[rows] != labels),
        title=f"held-out texts: the darker a {vocabulary.kind[:-1]}, the less sure the network is without it",
    )


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
