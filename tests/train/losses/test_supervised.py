"""Losses of numbers, of yes and no, and of sequences, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import mean_pinball_loss

from jaxnn import data, train
from tests.train.losses.test_classification import softmax_oracle

RNG = np.random.default_rng(0)
Z, Y = RNG.normal(size=(2, 6, 5)).astype(np.float32) * 3
YES = RNG.integers(0, 2, (6, 5))


def losses_of(loss_fn, outputs, targets, **more):
    return loss_fn(lambda x: x, {"x": outputs, "y": targets, **more}, None)


def huber(r, delta):
    return np.where(np.abs(r) <= delta, r**2 / 2, delta * (np.abs(r) - delta / 2))


def sigmoid_oracle(z, y, weight=1.0):
    z = z.astype(np.float64)
    return weight * y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)


RESIDUALS = Z.astype(np.float64) - Y
ORACLES = {
    "squared": (train.losses.regression(), Y, RESIDUALS**2, 2 * RESIDUALS),
    "Huber": (train.losses.regression(1.5), Y, huber(RESIDUALS, 1.5), np.clip(RESIDUALS, -1.5, 1.5)),
    "sigmoid": (train.losses.binary(), YES, sigmoid_oracle(Z, YES), 1 / (1 + np.exp(-Z.astype(np.float64))) - YES),
    "weighted": (
        train.losses.binary(4.0),
        YES.astype(bool),
        sigmoid_oracle(Z, YES, 4.0),
        np.where(YES, -4 / (1 + np.exp(Z.astype(np.float64))), 1 / (1 + np.exp(-Z.astype(np.float64)))),
    ),
    "soft labels": (train.losses.binary(), YES * np.float32(0.5), sigmoid_oracle(Z, YES * 0.5), None),
}


@pytest.mark.parametrize(("loss_fn", "targets", "expected", "gradient"), ORACLES.values(), ids=ORACLES.keys())
def test_losses_and_gradients_equal_numpy(loss_fn, targets, expected, gradient):
    """A number an example, and the mean over positions; a unit axis at the end makes no difference."""

    def total(z):
        losses, metrics = losses_of(loss_fn, z, targets)
        return losses.sum(), (losses, metrics)

    (_, (losses, metrics)), grads = jax.value_and_grad(total, has_aux=True)(jnp.asarray(Z))
    np.testing.assert_allclose(losses, expected.mean(1), rtol=1e-5)
    if gradient is not None:
        np.testing.assert_allclose(grads, gradient / 5, rtol=1e-4, atol=1e-6)
    for name, value in metrics.items():
        truth = np.abs(RESIDUALS) if name == "mae" else (Z > 0) == (targets > 0.5)
        np.testing.assert_allclose(value, truth.mean(1), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(losses_of(loss_fn, Z[:, :1], targets[:, 0])[0], expected[:, 0], rtol=1e-5)
    half = jnp.asarray(Z, jnp.bfloat16)
    rounded, _ = losses_of(loss_fn, half, targets)
    assert rounded.dtype == jnp.float32
    np.testing.assert_allclose(rounded, losses_of(loss_fn, half.astype(jnp.float32), targets)[0], rtol=1e-6)


def test_the_quantile_loss_equals_scikit_learns_and_is_least_at_the_quantiles():
    levels = [0.05, 0.5, 0.9]
    made = jnp.asarray(np.sort(RNG.normal(size=(6, 5, 3)).astype(np.float32) * 3))
    (losses, metrics), weights = (
        losses_of(train.losses.quantile(levels), made, Y),
        RNG.uniform(size=6).astype(np.float32),
    )
    expected = [[mean_pinball_loss(Y[n], made[n, :, k], alpha=tau) for k, tau in enumerate(levels)] for n in range(6)]
    np.testing.assert_allclose(losses, np.mean(expected, 1), rtol=1e-5)
    np.testing.assert_allclose(metrics["coverage"], ((made[..., 0] <= Y) & (made[..., 2] >= Y)).mean(1), rtol=1e-6)
    gradient = jax.grad(lambda z: (losses_of(train.losses.quantile(levels), z, Y)[0] * weights).sum())(made)
    slope = np.where(Y[..., None] > made, -np.asarray(levels), 1 - np.asarray(levels))
    np.testing.assert_allclose(gradient, slope * weights[:, None, None] / 15, rtol=1e-5)
    sample = jnp.asarray(RNG.gamma(2.0, size=1001), jnp.float32)
    quantile = jnp.asarray(np.quantile(sample, 0.9), jnp.float32)
    away = [quantile, quantile - 0.05, quantile + 0.05]
    loss = [float(losses_of(train.losses.quantile([0.9]), jnp.full((1001, 1), z), sample)[0].mean()) for z in away]
    assert loss[0] == min(loss)


def test_huge_logits_lose_nothing():
    z = jnp.array([-1e4, 1e4, 1e4])
    value, gradient = jax.value_and_grad(lambda z: losses_of(train.losses.binary(), z, np.array([1, 0, 1]))[0].sum())(z)
    assert float(value) == 2e4
    assert gradient.tolist() == [-1, 1, 0]


def test_infinite_logits_have_the_limits_of_value_and_gradient():
    labels = np.array([1, 1, 0, 0, 0.5], np.float32)
    z = jnp.array([jnp.inf, -jnp.inf, jnp.inf, -jnp.inf, jnp.inf])

    def loss(z):
        losses = losses_of(train.losses.binary(), z, labels)[0]
        return losses.sum(), losses

    gradient, losses = jax.grad(loss, has_aux=True)(z)
    assert losses.tolist() == [0, np.inf, np.inf, 0, np.inf]
    assert gradient.tolist() == [0, -1, 1, 0, 0.5]


@pytest.mark.parametrize(
    ("loss_fn", "outputs", "targets", "message"),
    [
        (
            train.losses.regression(),
            Z,
            Y[:, 0],
            r"model: expected outputs of shape \(6,\), that of the targets, got \(6, 5\)",
        ),
        (train.losses.regression(), Z[:, 0], Y[:, :1], r"model: expected outputs of shape \(6, 1\), .* got \(6,\)"),
        (train.losses.regression(), Z, YES, "targets: expected floats, got int64; convert them"),
        (train.losses.quantile([0.1, 0.9]), Z, Y, r"model: expected outputs of shape \(6, 5, 2\), .* got \(6, 5\)"),
        (train.losses.quantile([0.5]), Z[..., None], YES, "targets: expected floats, got int64; convert them"),
        (train.losses.binary(), Z, YES[:, 0], r"model: expected logits of shape \(6,\)"),
        (train.losses.binary(), Z, YES + 0j, "labels: expected bools, integers or floats, got complex128"),
    ],
)
def test_wrong_shapes_and_dtypes_are_named(loss_fn, outputs, targets, message):
    with pytest.raises(ValueError, match=message):
        losses_of(loss_fn, outputs, targets)


def test_wrong_options_are_named():
    for make, message in (
        (lambda: train.losses.regression(0.0), "huber_delta: expected a finite positive number or None, got 0"),
        (
            lambda: train.losses.quantile([0.9, 0.1]),
            r"quantiles: expected increasing numbers .*, got \[0.9, 0.1\]; sort",
        ),
        (lambda: train.losses.quantile(0.5), r"quantiles: expected a list of numbers, got 0\.5; write \[0\.5\]"),
        (lambda: train.losses.quantile([]), r"quantiles: expected increasing numbers between 0 and 1, got \[\]"),
        (lambda: train.losses.quantile([0.5, 1.0]), "quantiles: expected increasing numbers between 0 and 1"),
        (lambda: train.losses.binary(-1.0), "positive_weight: expected a finite positive number, got -1"),
        (
            lambda: train.losses.sequence(lambda *_: None),
            "loss: expected one that losses.classification, .* got function",
        ),
        (lambda: train.losses.sequence(per="batch"), "per: expected 'step' or 'sequence', got 'batch'"),
        (lambda: train.losses.sequence(lengths="n", mask="m"), "lengths: expected lengths or a mask, got both"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def start():
    return train.create_state({"scale": jnp.float32(1)}, optax.sgd(0.0), jax.random.key(0))


def scaled(model, batch):
    return model["scale"] * batch["x"]


def test_a_label_that_is_neither_yes_nor_no_is_named_and_gives_nan():
    labels = YES[:, 0].copy()
    labels[4] = 2
    loss_fn = train.losses.binary(apply_fn=scaled)
    with pytest.raises(
        ValueError, match=r"data\['y'\]: expected labels from 0 to 1, got 2 at position 4 \(1 of 6\); map"
    ):
        train.evaluate(start(), {"x": Z[:, 0], "y": labels}, loss_fn)
    found, _ = losses_of(train.losses.binary(), Z[:, 0], labels)
    assert np.isnan(found).tolist() == [False] * 4 + [True, False]


LENGTHS = np.array([3, 0, 7, 1, 5, 2, 7], np.int32)
MASK = np.arange(7)[None] < LENGTHS[:, None]
LOGITS = RNG.normal(size=(7, 7, 3)).astype(np.float32)
CLASSES = RNG.integers(0, 3, (7, 7))
NUMBERS = RNG.normal(size=(7, 7, 3)).astype(np.float32)
SEQUENCES = {
    "classes": (train.losses.classification(apply_fn=scaled), CLASSES, -1),
    "numbers": (train.losses.regression(apply_fn=scaled), NUMBERS, np.nan),
    "quantiles": (
        train.losses.quantile([0.1, 0.9], apply_fn=lambda model, batch: scaled(model, batch)[..., :2]),
        NUMBERS[..., 0],
        np.nan,
    ),
    "yes or no": (train.losses.binary(apply_fn=scaled), (NUMBERS > 0).astype(np.float32), np.nan),
}


def per_step(name):
    if name == "classes":
        return softmax_oracle(LOGITS.reshape(-1, 3), CLASSES.reshape(-1), 0.0).reshape(7, 7)
    if name == "numbers":
        return ((LOGITS.astype(np.float64) - NUMBERS) ** 2).mean(-1)
    if name == "quantiles":
        residuals = NUMBERS[..., :1].astype(np.float64) - LOGITS[..., :2]
        return np.maximum(residuals * [0.1, 0.9], residuals * [-0.9, -0.1]).mean(-1)
    return sigmoid_oracle(LOGITS, NUMBERS > 0).mean(-1)


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("per", ["step", "sequence"])
def test_means_over_steps_and_sequences_are_exact_however_batches_fall(name, per):
    loss, targets, padding = SEQUENCES[name]
    losses = np.where(MASK, per_step(name), 0)
    expected = losses.sum() / MASK.sum() if per == "step" else (losses.sum(1) / np.maximum(LENGTHS, 1)).sum() / 6
    beyond = MASK.reshape(7, 7, *(1,) * (targets.ndim - 2))
    points = {"x": np.where(MASK[..., None], LOGITS, 1e3).astype(np.float32), "y": targets, "lengths": LENGTHS}
    points["y"] = np.where(beyond, targets, padding).astype(targets.dtype)
    masked = {"x": points["x"], "y": points["y"], "valid": MASK}
    for batch, loss_fn in (
        (points, train.losses.sequence(loss, per=per)),
        (masked, train.losses.sequence(loss, mask="valid", per=per)),
    ):
        for batch_size in (2, 7):
            found = train.evaluate(start(), batch, loss_fn, batch_size=batch_size)["loss"]
            np.testing.assert_allclose(found, expected, rtol=1e-5)
        _, metrics = train.make_step(loss_fn)(start(), batch)
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
        assert np.isfinite(metrics["grad_norm"])
        lost = jnp.where(MASK[..., None], LOGITS, jnp.nan)
        gradient = jax.grad(lambda x, b=batch, f=loss_fn: f({"scale": 1.0}, b | {"x": x}, None)[0].sum())(lost)
        assert not gradient[~MASK].any()
        assert np.isfinite(gradient).all()
    if per == "step" and name in ("classes", "numbers"):
        for stored in (points, data.Stream(points)):
            _, history = train.fit(start(), stored, train.losses.sequence(loss), epochs=1, batch_size=2, progress=False)
            np.testing.assert_allclose(history[0]["train_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"y": np.full((7, 7), 3)},
            {},
            r"data\['y'\]: expected class numbers 0\.\.2, got 3 at position 0, 0 \(25 of 49\)",
        ),
        ({"lengths": LENGTHS + 1}, {}, r"data\['lengths'\]: expected lengths 0\.\.7, got 8 at position 2 \(2 of 7\)"),
        ({"lengths": 0 * LENGTHS}, {}, r"data\['y'\]: expected a step that lengths or the mask let count, got none"),
        ({"lengths": MASK}, {}, r"lengths: expected integers of shape \(7,\), got bool of shape \(7, 7\)"),
        ({"mask": MASK}, {}, "batch: expected lengths or a mask, got 'lengths', 'mask'; say which"),
        ({"mask": LENGTHS}, {"mask": "mask"}, r"mask: expected bools of shape \(7, 7\), got int32 of shape \(7,\)"),
        ({}, {"lengths": "n"}, r"lengths: expected a dictionary with the keys 'x', 'y', 'lengths', got 'n'"),
        ({"x": LOGITS[:, 0], "y": CLASSES[:, 0]}, {}, r"targets: expected sequences, \(batch, time\) and further"),
    ],
)
def test_what_cannot_be_right_in_sequences_is_named(change, options, message):
    points = {"x": LOGITS, "y": CLASSES, "lengths": LENGTHS} | change
    loss_fn = train.losses.sequence(train.losses.classification(apply_fn=scaled), **options)
    with pytest.raises(ValueError, match=message):
        train.evaluate(start(), points, loss_fn)


def test_sequences_without_lengths_count_whole_and_ignored_labels_stay_out():
    ours = train.losses.sequence(train.losses.classification(ignore_label=2, apply_fn=scaled))
    counted = CLASSES != 2
    found = train.evaluate(start(), {"x": LOGITS, "y": CLASSES}, ours, batch_size=3)["loss"]
    np.testing.assert_allclose(found, per_step("classes")[counted].mean(), rtol=1e-5)
    found = train.evaluate(start(), {"x": LOGITS, "y": CLASSES, "length": LENGTHS}, ours, batch_size=3)["loss"]
    np.testing.assert_allclose(found, per_step("classes")[counted & MASK].mean(), rtol=1e-5)
