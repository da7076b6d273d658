import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn import inspect


def probabilities(seed, n=200, classes=4):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 0.3), n), rng.integers(0, classes, n)


def naive_error(p, labels, bins):
    """The definition, example by example."""
    total = 0.0
    for b in range(bins):
        inside = [i for i in range(len(p)) if b / bins < p[i].max() <= (b + 1) / bins]
        if inside:
            right = sum(p[i].argmax() == labels[i] for i in inside) / len(inside)
            sure = sum(p[i].max() for i in inside) / len(inside)
            total += len(inside) / len(p) * abs(right - sure)
    return total


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), bins=st.integers(1, 20))
def test_the_calibration_error_is_its_definition(seed, bins):
    p, labels = probabilities(seed)
    groups = inspect.reliability(p, labels, bins=bins)
    assert groups.error == pytest.approx(naive_error(p, labels, bins), abs=1e-12)
    assert groups.size.sum() == len(p)


def test_the_scores_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    p, labels = probabilities(0)
    scores = inspect.scores(p, labels)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(labels, p.argmax(-1)))
    assert scores.negative_log_likelihood == pytest.approx(metrics.log_loss(labels, p))


def test_who_says_what_is_so_is_calibrated():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 50_000)
    labels = (rng.random((50_000, 1)) > p.cumsum(-1)).sum(-1)
    assert inspect.scores(p, labels).calibration_error < 0.01
    sure = np.eye(3)[p.argmax(-1)]
    assert inspect.scores(sure, labels).calibration_error == pytest.approx(1 - inspect.scores(p, labels).accuracy)


def test_probability_zero_of_what_came_is_no_infinity():
    assert np.isfinite(inspect.scores([[1.0, 0.0]], [1]).negative_log_likelihood)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inspect.reliability([[0.5, 0.5]], [0], bins=0), "bins: expected a whole number"),
        (lambda: inspect.scores([0.5, 0.5], [0]), r"probabilities: expected \(examples, classes\)"),
        (lambda: inspect.scores(np.zeros((0, 2)), []), r"probabilities: expected \(examples, classes\), at least one"),
        (lambda: inspect.scores([[2.0, -1.0]], [0]), "pass a softmax of logits"),
        (lambda: inspect.scores([[0.5, 0.4]], [0]), "pass a softmax of logits"),
        (lambda: inspect.scores([[np.nan, 0.5]], [0]), "pass a softmax of logits"),
        (lambda: inspect.scores([[0.5, 0.5]], [0, 1]), "labels: expected integers, one per row"),
        (lambda: inspect.scores([[0.5, 0.5]], [0.0]), "labels: expected integers"),
        (lambda: inspect.scores([[0.5, 0.5]], [2]), "labels: expected classes from 0 to 1, got 2 to 2"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
