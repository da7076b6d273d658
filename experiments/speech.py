"""A bidirectional LSTM transcribes spoken digits, one character after another, trained by CTC: nobody says when.

    python -m experiments.speech
    python -m experiments.speech --causal           # looks back only, and transcribes chunk by chunk as it hears
    python -m experiments.speech --data-dir FOLDER  # recordings, the Free Spoken Digit Dataset for instance

By default eSpeak NG, of the extra `speech`, says strings of digits in 50 voices, five accents and many speeds and
pitches; 12 of the voices are heard in the test only. `--data-dir` takes WAV files of one channel and one rate, with
what they say as `jaxnn.data.load_recordings` reads it (transcripts.txt, metadata.csv, or Free Spoken Digit's names);
some speakers are held out.

The network sees 31 pairs of log-mel frames a second and gives each pair a probability for every character of the
training texts, and for none. It writes by greedy and by beam search. The baseline is the nearest sequence of recordings
of one word, by dynamic time warping. Word and character error rates are those of the held-out speakers.

Leaves config.json, result.json, metrics.jsonl, curves.png and speech.png, which shows what is heard when.
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

from experiments import speech_data, speech_templates
from experiments.data import digits_aloud
from experiments.speech_data import HOP, Speech
from jaxnn import cli, data, metrics, models, plots, train
from jaxnn import functional as F
from jaxnn.data import Recordings


@dataclasses.dataclass(frozen=True)
class Options(cli.Cosine):
    """How to train."""

    data_dir: Path | None = None
    """A folder of recordings and what they say; without it eSpeak NG speaks."""
    held_out: tuple[str, ...] = ()
    """The speakers of --data-dir to test by, every fifth unless said."""
    strings: cli.Count = 4000
    """Strings of digits that eSpeak NG says to train on."""
    tests: cli.Count = 300
    """Strings of digits that held-out voices say to test by."""
    digits: cli.Count = 4
    """The most digits of a string."""
    epochs: cli.Count = 16
    batch_size: cli.Count = 16
    hidden: cli.Count = 64
    """Memory cells of each LSTM layer and direction."""
    layers: cli.Count = 1
    """LSTM layers, one on top of another."""
    dropout: cli.Share = 0.2
    """Rate of dropout between LSTM layers and before the last layer."""
    learning_rate: cli.Number = 5e-3
    causal: bool = False
    """One direction only, which looks back: transcribes the test chunk by chunk too, and says whether that differs."""
    beams: cli.Count = 8
    """Beginnings that beam search keeps."""
    templates: cli.Count = 20
    """Recordings of each word that the baseline compares with."""
    run: Path = Path("runs/speech")


class Listener(nnx.Module):
    """The network, which brings each band to mean zero and variance one by the statistics of the training set."""

    def __init__(self, options: Options, mean: np.ndarray, std: np.ndarray, classes: int) -> None:
        self.mean, self.std = (nnx.Variable(jnp.asarray(each)) for each in (mean, std))
        self.net = models.Transcriber(
            len(mean),
            classes,
            hidden=options.hidden,
            layers=options.layers,
            bidirectional=not options.causal,
            dropout=options.dropout,
            rngs=nnx.Rngs(options.seed),
        )

    def __call__(self, frames: jax.Array, lengths: jax.Array | None = None, **options: Any) -> Any:
        """Stacks of log-mel frames to logits of blank and characters."""
        return self.net((frames - self.mean[...]) / self.std[...], lengths=lengths, **options)


def main(options: Options) -> None:
    """Trains, transcribes what held-out speakers say, and compares with the baseline."""
    cli.check_run(options)
    advice = "none without --data-dir; the voices that eSpeak NG holds out are fixed"
    cli.expect("held_out", " ".join(options.held_out), options.data_dir is not None or not options.held_out, advice)
    heard, held_out = recordings_of(options)
    alphabet = speech_data.alphabet_of(heard.texts if options.data_dir else [" ".join(digits_aloud.WORDS)])
    learned, judged = (speech_data.prepare(each, alphabet) for each in (heard, held_out))
    steps = cli.steps_of(options.epochs, len(learned.inputs), options.batch_size)
    tx = train.optimizer("adam", options.learning_rate, steps=steps, schedule="cosine", clip_norm=1.0)
    network = Listener(options, *speech_data.statistics(learned), len(alphabet) + 1)
    state = train.create_state(network, tx, jax.random.key(options.seed))
    work: dict[str, Any] = {
        "data": learned,
        "loss_fn": train.losses.ctc(apply_fn=listen),
        "test_data": judged,
        "preprocess": speech_data.vary,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
    }
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
    started = time.perf_counter()
    state, _ = train.fit(state, **work, **cli.keeping(options, folder, free=("beams", "templates")))
    result: dict[str, Any] = {"seconds": time.perf_counter() - started, "parameters": parameters}

    model = state.model()
    model.eval()
    logits = np.asarray(train.predict(state, judged, listen))
    greedy = F.ctc_greedy(logits, judged.lengths)
    beam = F.ctc_beam_search(logits, judged.lengths, beams=options.beams)
    written = {
        "network, greedy": texts_of(greedy.labels, greedy.lengths, alphabet),
        "network, beam search": texts_of(beam.labels[:, 0], beam.lengths[:, 0], alphabet),
    }
    templates = speech_templates.templates_of(learned, heard.texts, heard.speakers, options.templates)
    if templates.words:
        rows = zip(judged.inputs, judged.lengths, strict=True)
        written["nearest templates"] = [
            speech_templates.transcribe(templates, speech_data.unstacked(each[:n])) for each, n in rows
        ]
    if options.causal:
        written["network, chunk by chunk"] = [
            stream(model, samples, held_out.rate, alphabet) for samples in held_out.samples
        ]
        pairs = zip(written["network, greedy"], written["network, chunk by chunk"], strict=True)
        same = np.mean([one == other for one, other in pairs])
        print(f"chunk by chunk the network writes what it writes of the whole in {same:.2%} of the recordings")
    for name, texts in written.items():
        rates = metrics.word_error_rate(held_out.texts, texts), metrics.character_error_rate(held_out.texts, texts)
        result[f"word error rate, {name}"], result[f"character error rate, {name}"] = rates
        print(f"{name:>24}: word error rate {rates[0]:7.2%}, character error rate {rates[1]:7.2%}")
    folder.write_json("result.json", result)
    draw(folder / "speech.png", judged, logits, held_out, written["network, beam search"], alphabet)
    print(f"the picture of what is heard when and the numbers are in {folder.path}")


def recordings_of(options: Options) -> tuple[Recordings, Recordings]:
    """The recordings to train on, and those of held-out speakers."""
    if options.data_dir is not None:
        with cli.as_typed(folder="--data-dir", recordings="--data-dir", held_out="--held-out"):
            return data.split_speakers(data.load_recordings(options.data_dir), options.held_out)
    spoken = [(options.strings, digits_aloud.HEARD), (options.tests, digits_aloud.HELD_OUT)]
    strings = [
        digits_aloud.strings(number, options.digits, 2 * options.seed + part, voices)
        for part, (number, voices) in enumerate(spoken)
    ]
    try:
        return data.speak(strings[0]), data.speak(strings[1])
    except ImportError as error:
        raise ImportError(f"{error}; or give recordings with --data-dir") from None


def listen(model: Listener, batch: Any) -> jax.Array:
    """The logits of a batch of recordings."""
    logits: jax.Array = model(batch.inputs, batch.lengths)
    return logits


def texts_of(labels: jax.Array, lengths: jax.Array, alphabet: str) -> list[str]:
    """Labels `(n, longest)` as texts."""
    rows = zip(np.asarray(labels), np.asarray(lengths), strict=True)
    return [speech_data.text_of(row, length, alphabet) for row, length in rows]


def stream(model: Listener, samples: np.ndarray, rate: int, alphabet: str, chunk: int = 10) -> str:
    """Transcribes sound as it comes, `chunk` stacks at a time, greedily; for a network that looks back only."""
    window, hop = speech_data.sizes(rate)
    step = speech_data.STACK * hop
    samples = speech_data.with_silence(samples, rate)
    past, states, last, text = np.zeros(window - hop, np.float32), model.net.lstm.zero_state((1,)), 0, ""
    for start in range(0, len(samples), chunk * step):
        new = samples[start : start + chunk * step]
        count = len(new) // step
        new = np.pad(new, (0, chunk * step - len(new)))  # the last chunk, so that all have one compiled program
        labels, states = listen_on(model, jnp.asarray(new)[None], rate, jnp.asarray(past)[None], states)
        for label in np.asarray(labels)[0, :count]:
            if label not in (speech_data.BLANK, last):
                text += alphabet[label - 1]
            last = int(label)
        past = np.concatenate([past, new])[-(window - hop) :]
    return " ".join(text.split())


@nnx.jit(static_argnames="rate")
def listen_on(model: Listener, samples: jax.Array, rate: int, past: jax.Array, states: Any) -> tuple[jax.Array, Any]:
    """The most probable label of each stack of a chunk, and the states after it."""
    logits, states = model(speech_data.stacked_log_mel(samples, rate, past), state=states, return_state=True)
    return jnp.argmax(logits, -1), states


def draw(path: Path, judged: Speech, logits: np.ndarray, said: Recordings, written: list[str], alphabet: str) -> None:
    """Draws two recordings with several words: one that is transcribed well, and one that is not if there is one."""
    right = [a == b for a, b in zip(said.texts, written, strict=True)]
    words = [len(text.split()) for text in said.texts]
    by_interest = sorted(range(len(right)), key=lambda row: (-min(words[row], 3), words[row], row))
    good = [row for row in by_interest if right[row]]
    bad = [row for row in by_interest if not right[row]]
    p = np.asarray(jax.nn.softmax(logits))

    def heard(row: int) -> plots.Heard:
        n = judged.lengths[row]
        return plots.Heard(speech_data.unstacked(judged.inputs[row, :n]), p[row, :n], said.texts[row], written[row])

    high = min(speech_data.HIGHEST, said.rate / 2)
    shown = [heard(row) for row in [*good[:1], *bad[:1], *good[1:2]][:2]]
    plots.transcripts(shown, path, ["", *alphabet], hop=HOP, edges=(0, high))


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
