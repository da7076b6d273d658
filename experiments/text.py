"""An LSTM reads texts and names their class: by default the language of a sentence, beside bags of words and letters.

    python -m experiments.text
    python -m experiments.text --data-dir aclImdb --tokens words --length 400
    python -m experiments.text --data-dir reviews.csv --tokens words --pooling mean

The default tells 23 languages apart, the official ones of the European Union but Maltese: `jaxnn.data.load_languages`,
the messages of Django in its translators' words. They are at hand, true to their class, and short enough (half of them
have fewer than 30 letters) that a few letters must do.

Whole documents are held out: the parts `auth` and `admindocs` of Django, translated apart from the others. The
vocabulary is that of the training texts. The defaults were chosen with `admin` held out in their place.

The network: an embedding of characters or words, a bidirectional LSTM, the mean over its outputs weighted by attention
(or not, `--pooling mean`), dropout, a dense layer. A training step shows a random piece of each text (`--crop`) with
some tokens unknown. The baseline is hard to beat where texts are few: logistic regression on TF-IDF of words
and, where the network reads characters, on TF-IDF of one to three letters within a word.

`--data-dir` reads texts of your own, as `jaxnn.data.load_texts` says: a folder with a sub-folder of text files a class
(also `train` and `test`, as the Large Movie Review Dataset has them), or a CSV file with the columns text and label.

Leaves config.json, metrics.jsonl, result.json, curves.png, confusion.png and words.png in the run folder: what the
network decided by, each piece the darker, the less sure the network is without it.
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnn import cli, data, inspect, models, plots, train
from jaxnn.data import TextDataset, Texts, Vocabulary
from jaxnn.train.step import Preprocess


@dataclasses.dataclass(frozen=True)
class Options(cli.Cosine):
    """Options of the text classifier."""

    data_dir: Path | None = None
    """Texts of your own: a folder with a sub-folder a class, or a CSV file with the columns text and label."""
    test_fraction: cli.Share = 0.2
    """Share of your documents to hold out, where they have no part `test`."""
    tokens: Literal["characters", "words"] = "characters"
    """The tokens that the network reads."""
    length: cli.Count = 40
    """Characters or words of a text that it reads; what is longer is cut."""
    embed: cli.Count = 32
    """Size of an embedding."""
    hidden: cli.Count = 64
    """Hidden units of the LSTM in each direction."""
    pooling: Literal["attention", "mean"] = "attention"
    """How the LSTM's outputs are weighted before the dense layer."""
    crop: Annotated[float, cli.Bound("a number above 0, at most 1", lambda x: 0 < x <= 1)] = 0.4
    """Smallest share of a training text that a step shows, a random piece of it; 1 shows all that --length allows."""
    unknown: cli.Share = 0.05
    """Chance of each token of a training text to be shown as an unknown one."""
    dropout: cli.Share = 0.1
    """Rate of dropout of the embeddings and before the dense layer."""
    epochs: cli.Count = 24
    batch_size: cli.Count = 64
    learning_rate: cli.Number = 2e-2
    run: Path = Path("runs/text")


class Batch(NamedTuple):
    """Texts as arrays.

    Attributes:
        tokens: `(texts, length)`.
        lengths: How many tokens of each text count.
        labels: The classes.
    """

    tokens: Any
    lengths: Any
    labels: Any


def main(options: Options) -> None:
    """Trains the network, and compares it with bags of words and letters."""
    cli.check_run(options)
    texts = load(options)
    vocabulary = Vocabulary.of(texts.train.texts, options.tokens)
    # Pieces of a longer text are shown than are read at once.
    learned = encode(vocabulary, texts.train, 2 * options.length)
    held_out = encode(vocabulary, texts.test, options.length)
    steps = cli.steps_of(options.epochs, len(learned.labels), options.batch_size)
    tx = train.optimizer("adam", options.learning_rate, steps=steps, schedule="cosine", clip_norm=1.0)

    def start() -> train.TrainState:
        model = models.TextClassifier(
            len(vocabulary),
            len(texts.classes),
            embed_features=options.embed,
            hidden_features=options.hidden,
            pooling=options.pooling,
            dropout=options.dropout,
            rngs=nnx.Rngs(options.seed),
        )
        return train.create_state(model, tx, jax.random.key(options.seed))

    work: dict[str, Any] = {
        "data": learned,
        "loss_fn": train.losses.classification(apply_fn=logits),
        "test_data": held_out,
        "preprocess": pieces(options),
        "epochs": options.epochs,
        "batch_size": options.batch_size,
    }
    if options.dry_run:
        cli.dry_run(options, start, **work)
        return
    folder = cli.folder_of(options)
    state = start()
    parameters = optax.tree.size(state.params)
    cut = np.mean([len(vocabulary.split(text)) > options.length for text in texts.test.texts])
    print(
        f"TextClassifier with {parameters:,} parameters on {texts.name}: {len(texts.classes)} classes, "
        f"{len(learned.labels):,} texts to train on, {len(held_out.labels):,} held out ({cut:.0%} of them longer than "
        f"--length); {len(vocabulary):,} {options.tokens}; {jax.devices()[0].device_kind}"
    )
    started = time.perf_counter()
    state, _ = train.fit(state, **work, **cli.keeping(options, folder))
    seconds = time.perf_counter() - started
    predicted = {"LSTM": np.asarray(train.predict(state, held_out, logits)).argmax(-1)}
    predicted |= bags(texts, letters=options.tokens == "characters")
    scores = {name: score(held_out.labels, guess) for name, guess in predicted.items()}
    for name, each in scores.items():
        print(f"{name:>30}: {each['accuracy']:.2%} right, macro F1 {each['macro_f1']:.3f}")
    plots.confusion(held_out.labels, predicted["LSTM"], folder / "confusion.png", texts.classes)
    draw(state, vocabulary, texts, held_out, predicted["LSTM"], folder / "words.png")
    folder.write_json("result.json", {"seconds": seconds, "parameters": parameters, "scores": scores})
    print(f"after {seconds:.0f} s; pictures and numbers are in {folder.path}")


def load(options: Options) -> TextDataset:
    """The texts; errors name the options."""
    if options.data_dir is None:
        return data.load_languages()
    with cli.as_typed(path="--data-dir", test_fraction="--test-fraction"):
        return data.load_texts(options.data_dir, test_fraction=options.test_fraction, seed=options.seed)


def encode(vocabulary: Vocabulary, part: Texts, length: int) -> Batch:
    """Texts as arrays."""
    return Batch(*vocabulary.encode(part.texts, length), part.labels)


def pieces(options: Options) -> Preprocess:
    """Shows a random piece of each training text, with some tokens unknown, so that no text is learned by heart."""

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
    """The network's output for a batch."""
    return model(batch.tokens, lengths=batch.lengths)


def bags(texts: TextDataset, *, letters: bool) -> dict[str, np.ndarray]:
    """The classes of the held-out texts by logistic regression on TF-IDF, for each kind of bag."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    bag = {"bag of words": TfidfVectorizer(sublinear_tf=True)}
    if letters:
        bag["bag of one to three letters"] = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True)
    predicted = {}
    for name, vectorizer in bag.items():
        seen = vectorizer.fit_transform(texts.train.texts)
        regression = LogisticRegression(C=10.0, max_iter=300).fit(seen, texts.train.labels)
        predicted[name] = regression.predict(vectorizer.transform(texts.test.texts))
    return predicted


def score(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, and the mean over classes of F1."""
    from sklearn.metrics import f1_score

    return {
        "accuracy": float(np.mean(labels == predicted)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
    }


def draw(
    state: train.TrainState,
    vocabulary: Vocabulary,
    texts: TextDataset,
    held_out: Batch,
    predicted: np.ndarray,
    path: Path,
) -> None:
    """Draws some held-out texts of every class, with what the network decided by."""
    each = max(1, 12 // len(texts.classes))
    rows = np.concatenate([_some(held_out, label, each) for label in range(min(24, len(texts.classes)))])
    model = state.model()
    model.eval()
    contributions = inspect.occlusion(
        train.jit(lambda tokens, lengths: model(tokens, lengths=lengths)),
        held_out.tokens[rows],
        held_out.lengths[rows],
        replacement=vocabulary.UNKNOWN,
    )
    lengths = held_out.lengths[rows]
    pieces = [vocabulary.split(texts.test.texts[row])[:n] for row, n in zip(rows, lengths, strict=True)]
    wrong = predicted[rows] != held_out.labels[rows]
    names = [
        texts.classes[held_out.labels[row]] + (f", taken for {texts.classes[predicted[row]]}" if bad else "")
        for row, bad in zip(rows, wrong, strict=True)
    ]
    plots.highlights(
        pieces,
        [np.asarray(row)[:n] for row, n in zip(contributions, lengths, strict=True)],
        path,
        names=names,
        wrong=list(wrong),
        title=f"held-out texts: the darker a {vocabulary.kind[:-1]}, the less sure the network is without it",
    )


def _some(held_out: Batch, label: int, number: int) -> np.ndarray:
    """Held-out texts of a class whose length is nearest to half of what the network reads."""
    own = np.flatnonzero(held_out.labels == label)
    far = np.abs(held_out.lengths[own] - held_out.tokens.shape[1] // 2)
    return own[np.argsort(far, kind="stable")[:number]]


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
