"""A bidirectional LSTM transcribes spoken digits character by character, trained by CTC, without alignments.

    python -m experiments.speech
    python -m experiments.speech --causal           # sees only the past, and transcribes chunk by chunk
    python -m experiments.speech --data-dir FOLDER  # recordings, for example the Free Spoken Digit Dataset

By default eSpeak NG (extra `speech`) synthesises strings of digits in 50 voices, with five accents and many speeds and
pitches; 12 of the voices are in the test data only. WAV files (`jaxnn.data.load_recordings`) are split by speaker.

The network reads 31 pairs of log-mel frames per second and predicts a character or the blank for each; greedy and beam
search decode them. The baseline is the nearest sequence of recordings of single words.

Writes config.json, result.json, metrics.jsonl, curves.png and speech.png, the probabilities of labels over time.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.data import digits_aloud, sounds, templates
from jaxnn import cli, data, metrics, models, plots, train
from jaxnn import functional as F
from jaxnn.data import Recordings


@dataclasses.dataclass(frozen=True)
class Options(cli.Cosine):
    """How to train."""

    data_dir: Path | None = None
    """A folder of recordings and transcripts; by default eSpeak NG synthesises them."""
    held_out: tuple[str, ...] = ()
    """Speakers of --data-dir to test on; by default every fifth."""
    strings: cli.Count = 4000
    """Synthesised strings of digits to train on."""
    tests: cli.Count = 300
    """Synthesised strings of held-out voices to test on."""
    digits: cli.Count = 4
    """Largest number of digits in a string."""
    epochs: cli.Count = 16
    batch_size: cli.Count = 16
    hidden: cli.Count = 64
    """Memory cells of each LSTM layer and direction."""
    layers: cli.Count = 1
    """Stacked LSTM layers."""
    dropout: cli.Share = 0.2
    """Rate of dropout between LSTM layers and before the last layer."""
    learning_rate: cli.Number = 5e-3
    causal: bool = False
    """Read forward in time only; also transcribe the test data chunk by chunk, and compare."""
    beams: cli.Count = 8
    """Width of the beam search."""
    run: Path = Path("runs/speech")


class Listener(nnx.Module):
    """The network, which normalises each band by the mean and variance of the training data."""

    def __init__(self, options: Options, mean: np.ndarray, std: np.ndarray, classes: int) -> None:
        self.mean, self.std = (nnx.Variable(jnp.asarray(each)) for each in (mean, std))
        sizes: Any = {"hidden": options.hidden, "layers": options.layers, "dropout": options.dropout}
        sizes |= {"bidirectional": not options.causal}
        self.net = models.Transcriber(len(mean), classes, **sizes, rngs=nnx.Rngs(options.seed))

    def __call__(self, frames: jax.Array, lengths: jax.Array | None = None, **options: Any) -> Any:
        """Returns the logits of blank and characters for stacks of log-mel frames."""
        return self.net((frames - self.mean[...]) / self.std[...], lengths=lengths, **options)


def main(options: Options) -> None:
    """Trains, transcribes held-out speakers, and compares with the baseline."""
    cli.check_run(options)
    if options.data_dir is None:
        cli.unused(options, "held_out", because="without --data-dir; the voices that eSpeak NG holds out are fixed")
    else:
        cli.unused(options, "strings", "tests", "digits", because="with --data-dir, whose recordings are read whole")
    heard, held_out = recordings_of(options)
    alphabet = "".join(sorted({*"".join(heard.texts if options.data_dir else (" ", *digits_aloud.WORDS))}))
    learned, judged = sounds.prepare(heard, alphabet), sounds.prepare(held_out, alphabet)

    steps = cli.steps_of(options.epochs, len(learned.inputs), options.batch_size)
    tx = train.optimizer("adam", options.learning_rate, steps=steps, schedule="cosine", clip_norm=1.0)
    network = Listener(options, *sounds.statistics(learned), len(alphabet) + 1)
    state = train.create_state(network, tx, jax.random.key(options.seed))
    work: dict[str, Any] = {"data": learned, "loss_fn": train.losses.ctc(apply_fn=listen), "test_data": judged}
    work |= {"preprocess": sounds.vary, "epochs": options.epochs, "batch_size": options.batch_size}
    parameters = optax.tree.size(state.params)
    print(
        f"{'LSTM' if options.causal else 'bidirectional LSTM'} with {parameters:,} parameters; {len(heard.texts):,} "
        f"recordings of {len({*heard.speakers})} speakers to train on, {len(held_out.texts):,} of "
        f"{len({*held_out.speakers})} others held out; {jax.devices()[0].device_kind}"
    )
    if options.dry_run:
        cli.dry_run(options, lambda: state, **work)
        return
    folder = cli.folder_of(options)
    state, history = train.fit(state, **work, **cli.keeping(options, folder, free=("beams",)))

    logits = np.asarray(train.predict(state, judged, listen))
    greedy = F.ctc_greedy(logits, judged.lengths)
    beam = F.ctc_beam_search(logits, judged.lengths, beams=options.beams)
    written = {
        "network, greedy": sounds.texts_of(greedy.labels, greedy.lengths, alphabet),
        "network, beam search": sounds.texts_of(beam.labels[:, 0], beam.lengths[:, 0], alphabet),
    }
    near = templates.templates_of(learned, heard.texts, heard.speakers, most=20)
    if near.words:
        rows = zip(judged.inputs, judged.lengths, strict=True)
        written["nearest templates"] = [templates.transcribe(near, sounds.unstacked(each[:n])) for each, n in rows]
    if options.causal:
        model = state.model()
        model.eval()
        chunked = [stream(model, samples, held_out.rate, alphabet) for samples in held_out.samples]
        same = np.mean(np.array(written["network, greedy"]) == chunked)
        print(f"transcripts chunk by chunk equal those of whole recordings in {same:.2%} of them")
        written["network, chunk by chunk"] = chunked
    result: dict[str, Any] = {"seconds": sum(record["seconds"] for record in history), "parameters": parameters}
    for name, texts in written.items():
        words = metrics.word_error_rate(held_out.texts, texts)
        characters = metrics.character_error_rate(held_out.texts, texts)
        result |= {f"word error rate, {name}": words, f"character error rate, {name}": characters}
        print(f"{name:>24}: word error rate {words:7.2%}, character error rate {characters:7.2%}")
    folder.write_json("result.json", result)
    draw(folder / "speech.png", judged, logits, held_out, written["network, beam search"], alphabet)
    print(f"the picture of labels over time and the numbers are in {folder.path}")


def recordings_of(options: Options) -> tuple[Recordings, Recordings]:
    if options.data_dir is not None:
        with cli.as_typed(folder="--data-dir", recordings="--data-dir", held_out="--held-out"):
            return data.split_speakers(data.load_recordings(options.data_dir), options.held_out)
    most, seed = options.digits, 2 * options.seed
    heard = digits_aloud.strings(options.strings, most, seed, digits_aloud.HEARD)
    held_out = digits_aloud.strings(options.tests, most, seed + 1, digits_aloud.HELD_OUT)
    try:
        return data.speak(heard), data.speak(held_out)
    except ImportError as error:
        raise ImportError(f"{error}; or give recordings with --data-dir") from None


def listen(model: Listener, batch: Any) -> jax.Array:
    return model(batch.inputs, batch.lengths)


def stream(model: Listener, samples: np.ndarray, rate: int, alphabet: str, chunk: int = 10) -> str:
    """Transcribes sound as it comes, `chunk` stacks at a time, greedily; for a network that looks back only."""
    window, hop = sounds.sizes(rate)
    samples, size = sounds.with_silence(samples, rate), chunk * sounds.STACK * hop
    past, states, labels = np.zeros(window - hop, np.float32), model.net.lstm.zero_state((1,)), [0]
    for start in range(0, len(samples), size):
        new = samples[start : start + size]
        new = np.pad(new, (0, size - len(new)))  # the last chunk, so that all have one compiled program
        best, states = listen_on(model, jnp.asarray(new)[None], rate, jnp.asarray(past)[None], states)
        labels += np.asarray(best)[0].tolist()
        past = np.concatenate([past, new])[hop - window :]
    labels = labels[: 1 + len(samples) // (sounds.STACK * hop)]
    changes = [label for before, label in itertools.pairwise(labels) if label not in (0, before)]
    return " ".join("".join(alphabet[label - 1] for label in changes).split())


@nnx.jit(static_argnames="rate")
def listen_on(model: Listener, samples: jax.Array, rate: int, past: jax.Array, states: Any) -> tuple[jax.Array, Any]:
    """The most probable label of each stack of a chunk, and the states after it."""
    logits, states = model(sounds.stacked_log_mel(samples, rate, past), state=states, return_state=True)
    return jnp.argmax(logits, -1), states


def draw(
    path: Path, judged: sounds.Speech, logits: np.ndarray, said: Recordings, written: list[str], alphabet: str
) -> None:
    """Draws two recordings, of three words if there are any: one that is transcribed well, and one that is not."""
    words = [len(text.split()) for text in said.texts]
    rows = sorted(range(len(words)), key=lambda row: (-min(words[row], 3), words[row], row))
    good, bad = ([row for row in rows if (said.texts[row] == written[row]) == right] for right in (True, False))
    heard = []
    for row in [*good[:1], *bad[:1], *good[1:2]][:2]:
        n = judged.lengths[row]
        frames, probabilities = sounds.unstacked(judged.inputs[row, :n]), jax.nn.softmax(logits[row, :n])
        heard.append(plots.Heard(frames, probabilities, said.texts[row], written[row]))
    plots.transcripts(heard, path, ["", *alphabet], hop=sounds.HOP, edges=(0, min(sounds.HIGHEST, said.rate / 2)))


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
