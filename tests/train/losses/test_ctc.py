"""The loss of CTC against all alignments, enumerated in float64, and against PyTorch."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn import train
from tests.functional.test_ctc import labellings

TIME, CLASSES = 4, 3


def examples(blank=0, n=6):
    rng = np.random.default_rng(blank)
    labels = np.array([c for c in range(CLASSES) if c != blank])[rng.integers(0, CLASSES - 1, (n, 2))]
    return {
        "x": rng.normal(size=(n, TIME, CLASSES)).astype(np.float32),
        "labels": labels.astype(np.int32),
        "lengths": np.array([4, 3, 4, 3, 0, 4], np.int32),
        "label_lengths": np.array([2, 2, 1, 0, 0, 2], np.int32),
    }


def losses_of(batch, **options):
    return train.losses.ctc(**options)(lambda x: x, jax.tree.map(jnp.asarray, batch), None)


@pytest.mark.parametrize("blank", [0, 2])
def test_it_is_the_logarithm_of_the_sum_over_all_alignments(blank):
    batch = examples(blank)
    losses, metrics = losses_of(batch, blank=blank)
    for n in range(len(losses)):
        found = {labels: p for p, labels in labellings(batch["x"][n, : batch["lengths"][n]], blank)}
        wanted = tuple(batch["labels"][n, : batch["label_lengths"][n]].tolist())
        np.testing.assert_allclose(np.exp(-losses[n]), found[wanted], rtol=1e-4)
        best = batch["x"][n, : batch["lengths"][n]].argmax(-1)
        greedy = tuple(k for k, _ in itertools.groupby(best.tolist()) if k != blank)
        assert bool(metrics["accuracy"][n]) == (greedy == wanted)


def test_loss_and_gradient_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3, 20, 5)).astype(np.float32), rng.integers(1, 5, (3, 6))
    lengths, label_lengths = np.array([20, 15, 12]), np.array([6, 4, 0])
    batch = {"labels": labels, "lengths": lengths, "label_lengths": label_lengths}
    value, gradient = jax.value_and_grad(lambda z: losses_of({"x": z, **batch})[0].sum())(logits)
    z = torch.tensor(logits, requires_grad=True)
    parts = (torch.tensor(each) for each in (labels, lengths, label_lengths))
    theirs = torch.nn.functional.ctc_loss(z.log_softmax(-1).transpose(0, 1), *parts, reduction="sum")
    theirs.backward()
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, z.grad, rtol=1e-3, atol=1e-5)


def test_what_does_not_count_has_no_effect():
    batch = examples()
    spoilt = jax.tree.map(np.copy, batch)
    for n, (frames, count) in enumerate(zip(batch["lengths"], batch["label_lengths"], strict=True)):
        spoilt["x"][n, frames:] = np.nan
        spoilt["labels"][n, count:] = -7

    def run(batch):
        rest = {name: part for name, part in batch.items() if name != "x"}
        return jax.value_and_grad(lambda x: losses_of({"x": x, **rest})[0].sum())(batch["x"])

    jax.tree.map(np.testing.assert_array_equal, run(batch), run(spoilt))


def test_a_batch_without_lengths_counts_whole():
    batch = examples(n=6)
    whole = batch | {"lengths": np.full(6, TIME), "label_lengths": np.full(6, 2)}
    pair = batch["x"], batch["labels"]
    np.testing.assert_array_equal(losses_of(pair)[0], losses_of(whole)[0])


def test_labels_that_cannot_be_are_nan_and_those_without_an_alignment_infinite():
    x = np.zeros((4, TIME, CLASSES), np.float32)
    labels = np.array([[1, 1, 1], [1, 2, 1], [1, 3, 1], [1, 0, 1]])  # the first needs five frames
    losses, _ = losses_of((x, labels))
    assert np.isinf(losses[0])
    assert np.isfinite(losses[1])
    assert np.isnan(losses[2:]).all()


def test_a_logit_of_minus_infinity_is_a_class_that_cannot_be():
    batch = examples()
    low = np.where(np.arange(CLASSES) == 2, np.float32(-300), batch["x"])  # a probability of zero in float32
    finite = losses_of(batch | {"x": low})[0] < 100
    assert set(finite.tolist()) == {True, False}

    def attainable(x):
        losses = losses_of(batch | {"x": x})[0]
        return jnp.sum(jnp.where(finite, losses, 0)), losses

    derivative = jax.value_and_grad(attainable, has_aux=True)
    (_, expected), gradient = derivative(low)
    (_, losses), found = derivative(np.where(low == -300, -np.inf, low))
    np.testing.assert_allclose(losses, np.where(finite, expected, np.inf), rtol=1e-6)
    np.testing.assert_allclose(found, np.where(finite[:, None, None], gradient, 0), atol=1e-6)


def test_any_alignment_is_more_probable_than_none_and_log_probabilities_are_not_rounded():
    x = np.where(np.arange(CLASSES) == 0, np.float32(0), np.float32(-1e6))[None] * np.ones((TIME, 1), np.float32)
    batch = {"x": x[None], "labels": np.array([[1, 2]]), "lengths": np.array([4]), "label_lengths": np.array([2])}
    np.testing.assert_allclose(losses_of(batch)[0], 2e6, rtol=1e-6)
    program = jax.jit(losses_of).lower(batch).as_text()
    assert "precision = [HIGHEST, HIGHEST]" in program
    assert "DEFAULT" not in program


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": [[1, 2], [1, 0]]},
            r"data\['labels'\]: expected class numbers 0..2 other than the blank, 0, got 0 at",
        ),
        ({"labels": [[1, 2], [3, 1]]}, r"data\['labels'\]: expected class numbers 0..2 .* got 3 at position 1, 0"),
        ({"lengths": [2, 5]}, r"data\['lengths'\]: expected lengths 0..4, got 5 at position 1"),
        ({"label_lengths": [2, 3]}, r"data\['label_lengths'\]: expected lengths 0..2, got 3 at position 1"),
        (
            {"labels": [[1, 2], [1, 1]], "lengths": [2, 2]},
            r"data\['labels'\]: expected a frame a label and one between two equal labels, got 2 frames, 3 needed, at "
            r"position 1",
        ),
    ],
)
def test_fit_looks_at_labels_and_lengths_first(change, message):
    data = {"x": np.zeros((2, TIME, CLASSES), np.float32), "labels": np.array([[1, 2], [2, 1]])}
    data |= {"lengths": np.array([4, 4]), "label_lengths": np.array([2, 2])}
    data |= {name: np.array(value) for name, value in change.items()}
    state = train.create_state(jnp.zeros(CLASSES), optax.sgd(0.1), jax.random.key(0))
    loss_fn = train.losses.ctc(apply_fn=lambda bias, batch: batch["x"] + bias[None, None])
    with pytest.raises(ValueError, match=message):
        train.fit(state, data, loss_fn, epochs=1, batch_size=2, progress=False)


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        ((np.zeros((2, 3), np.float32), np.ones((2, 1), int)), {}, r"model: expected logits \(batch, time, classes\)"),
        ((np.zeros((2, 3, 4), np.float32), np.ones((2, 1))), {}, "labels: expected integer class numbers, got float32"),
        ((np.zeros((2, 3, 4), np.float32), np.ones((2, 1), int)), {"blank": 4}, "model: expected logits of the blank"),
        ((np.zeros((2, 3, 4), np.float32), np.ones((2, 1), int)), {"lengths": "n"}, "lengths: expected a tuple of 2"),
    ],
)
def test_what_does_not_fit_is_named(batch, options, message):
    with pytest.raises(ValueError, match=message):
        losses_of(batch, **options)


def test_a_blank_that_is_no_class_is_named():
    with pytest.raises(ValueError, match="blank: expected a whole number of at least 0, got -1"):
        train.losses.ctc(blank=-1)
