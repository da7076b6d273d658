"""The results of the runs of each setting of an ensemble, and the best setting."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxnn.train.ensemble.training import diverged
from jaxnn.train.run.record import History


class Setting(NamedTuple):
    """A value of a hyper-parameter, and the results of its runs in their last epoch.

    Attributes:
        value: The value.
        runs: The indices of its runs.
        whole: The indices of the runs that did not diverge.
        accuracy: The test accuracies of `whole`.
        loss: The test losses of `whole`.
    """

    value: float
    runs: np.ndarray
    whole: np.ndarray
    accuracy: np.ndarray
    loss: np.ndarray

    @property
    def rank(self) -> tuple[int, float, float]:
        """Key to sort by, the best last: fewest diverged runs, then highest mean accuracy, then lowest mean loss."""
        if not len(self.whole):
            return -len(self.runs), 0.0, 0.0
        return len(self.whole) - len(self.runs), float(self.accuracy.mean()), -float(self.loss.mean())

    @property
    def best(self) -> int:
        """The number of its best run."""
        return int(self.whole[np.lexsort((-self.loss, self.accuracy))[-1]])


def settings(column: ArrayLike, histories: Sequence[History]) -> list[Setting]:
    """Groups the runs of an ensemble by a hyper-parameter.

    If the result decides which value to use, give `ensemble.fit` a held-out part of the training data as its test data
    (`data.split`).

    Args:
        column: The hyper-parameter of each run, a column of the table that `ensemble.create` was given.
        histories: From `ensemble.fit`, with test data and accuracy.

    Returns:
        A setting for each value, ascending.

    Example:
        >>> from jaxnn import train
        >>> history = lambda accuracy: [{"test_accuracy": accuracy, "test_loss": 1 - accuracy}]
        >>> rates = [0.1, 0.1, 0.2, 0.2]
        >>> found = train.ensemble.settings(rates, [history(a) for a in (0.5, 0.7, 0.9, float("nan"))])
        >>> best = max(found, key=lambda each: each.rank)
        >>> best.value, best.best  # one run with 0.2 diverged
        (0.1, 1)
    """
    values = np.asarray(column)
    found = []
    for value in np.unique(values):
        runs = np.flatnonzero(values == value)
        whole = [i for i in runs.tolist() if not diverged(histories[i])]
        last = [histories[i][-1] for i in whole]
        accuracy, loss = (np.array([record[f"test_{name}"] for record in last]) for name in ("accuracy", "loss"))
        found.append(Setting(float(value), runs, np.array(whole, int), accuracy, loss))
    return found
