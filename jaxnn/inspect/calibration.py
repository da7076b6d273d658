"""Calibration: whether the probabilities of a classifier are the frequencies with which it is right."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.counts import check_count


class Reliability(NamedTuple):
    """Predictions grouped by their confidence.

    Attributes:
        confidence: Mean probability of the predicted class in each bin, `(bins,)`; NaN where a bin is empty.
        accuracy: Fraction of correct predictions in each bin, `(bins,)`; NaN where a bin is empty.
        size: Number of predictions in each bin, `(bins,)`.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    size: np.ndarray

    @property
    def error(self) -> float:
        r"""The expected calibration error, :math:`\sum_b \frac{n_b}{n} | \mathrm{acc}_b - \mathrm{conf}_b |`."""
        filled = self.size > 0
        gaps = np.abs(self.accuracy - self.confidence)[filled]
        return float(np.average(gaps, weights=self.size[filled]))


class Scores(NamedTuple):
    r"""Scores of predicted probabilities.

    Attributes:
        accuracy: Fraction of examples whose most probable class is correct.
        negative_log_likelihood: Mean of :math:`-\log p` of the true class, in nats.
        calibration_error: The expected calibration error over 15 bins, 0 to 1.
    """

    accuracy: float
    negative_log_likelihood: float
    calibration_error: float


def reliability(probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15) -> Reliability:
    r"""Groups predictions into bins of equal width by the probability of the predicted class.

    Bin :math:`b` of :math:`B` holds predictions with a probability in :math:`(b / B, (b + 1) / B]`. For a calibrated
    classifier the fraction of correct predictions is that probability.

    Args:
        probabilities: `(examples, classes)`, rows that sum to 1.
        labels: True classes, integers `(examples,)`.
        bins: Number of bins.

    Returns:
        Confidence, accuracy and size of each bin.

    Raises:
        ValueError: If shapes do not fit, rows are not probabilities, or there are no bins.

    References:
        Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.

    Example:
        >>> from jaxnn import inspect, train
        >>> groups = inspect.reliability([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1], bins=2)
        >>> groups.size.tolist(), round(float(groups.confidence[1]), 2), round(groups.error, 4)
        ([0, 3], 0.8, 0.1333)
    """
    check_count("bins", bins)
    table, truth = _checked(probabilities, labels)
    sure, right = table.max(-1), table.argmax(-1) == truth
    group = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    size = np.bincount(group, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(group, sure, bins) / size
        accuracy = np.bincount(group, right, bins) / size
    return Reliability(confidence, accuracy, size)


def scores(probabilities: ArrayLike, labels: ArrayLike) -> Scores:
    """Computes accuracy, negative log-likelihood and calibration error of a classifier's probabilities.

    For an ensemble pass the mean of its members' probabilities, `probabilities.mean(0)`.

    Args:
        probabilities: `(examples, classes)`, rows that sum to 1.
        labels: True classes, integers `(examples,)`.

    Returns:
        Accuracy, negative log-likelihood and calibration error.

    Raises:
        ValueError: If shapes do not fit or rows are not probabilities.

    Example:
        >>> import numpy as np
        >>> from jaxnn import inspect, train
        >>> members = np.array([[[0.6, 0.4], [0.6, 0.4]], [[0.8, 0.2], [0.2, 0.8]]])
        >>> ensemble = inspect.scores(members.mean(0), [0, 1])
        >>> ensemble.accuracy, round(ensemble.negative_log_likelihood, 3)
        (1.0, 0.434)
    """
    table, truth = _checked(probabilities, labels)
    # Zero is replaced by the smallest normal number, so that one wrong certainty does not make the mean infinite.
    likelihood = np.maximum(table[np.arange(len(truth)), truth], np.finfo(np.float32).tiny)
    return Scores(
        accuracy=float((table.argmax(-1) == truth).mean()),
        negative_log_likelihood=float(-np.log(likelihood).mean()),
        calibration_error=reliability(table, truth).error,
    )


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    table, truth = np.asarray(probabilities, np.float64), np.asarray(labels)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"probabilities: expected (examples, classes), at least one, got shape {table.shape}")
    if not (table >= 0).all() or not np.allclose(table.sum(-1), 1, atol=1e-3):
        raise ValueError(
            f"probabilities: expected rows that sum to 1, with nothing negative, got sums {table.sum(-1).min():.4g} to "
            f"{table.sum(-1).max():.4g} and a minimum of {table.min():.4g}; pass a softmax of logits."
        )
    if truth.shape != table.shape[:1] or truth.dtype.kind not in "iu":
        raise ValueError(
            f"labels: expected integers, one per row of probabilities, {table.shape[:1]}, "
            f"got {truth.dtype} {truth.shape}"
        )
    if truth.min() < 0 or truth.max() >= table.shape[1]:
        raise ValueError(f"labels: expected classes from 0 to {table.shape[1] - 1}, got {truth.min()} to {truth.max()}")
    return table, truth
