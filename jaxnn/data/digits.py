"""Handwritten digits from scikit-learn: a data set that needs no network."""

import numpy as np
import numpy.typing as npt

from jaxnn import extras
from jaxnn.data.dataset import Dataset, Examples, check_dataset, check_held_out


def load_digits(*, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Loads the 1,797 handwritten digits that scikit-learn contains, with a fixed split.

    Pictures are `(N, 8, 8, 1)` uint8. The file counts the dark pixels of each 4x4 block of the scan, v = 0..16; here a
    pixel is 255 v / 16, rounded (halves up).

    The split is stratified: of the n examples of each class, `test_fraction * n` (rounded, halves up) are held out at
    random; each part keeps the file's order. The same `seed` holds out the same pictures on every machine and with
    every version of NumPy. Pictures of one writer occur in both parts, so the test part is easier than digits of new
    writers.

    Args:
        test_fraction: Fraction of each class that is held out, above 0 and below 1.
        seed: Chooses the held-out pictures; 0 or above.

    Returns:
        The data set, of ten classes.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed.
        ValueError: If `seed` or `test_fraction` is out of range, or the fraction leaves one part empty.

    References:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
        1998 (its test part, which scikit-learn bundles).

    Example:
        >>> digits = load_digits()
        >>> digits.train.images.shape, digits.test.images.shape
        ((1438, 8, 8, 1), (359, 8, 8, 1))
        >>> digits.test.labels[:5].tolist(), digits.classes[7]
        ([2, 3, 1, 3, 5], '7')
    """
    check_held_out(test_fraction, seed)
    # Not at the top: scikit-learn takes a second to import and only this function needs it.
    with extras.needed("load_digits: scikit-learn, which contains the digits,", "experiments"):
        from sklearn.datasets import load_digits as bundled
    ink, labels = bundled(return_X_y=True)
    images = ((255 * ink.astype(np.int32) + 8) // 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    held_out = _stratified(labels, test_fraction, seed)

    def part(chosen: npt.NDArray[np.bool_]) -> Examples:
        return Examples(images[chosen], labels[chosen].astype(np.int32))

    return check_dataset(Dataset("digits", part(~held_out), part(held_out), tuple("0123456789")))


def _stratified(labels: npt.NDArray[np.int_], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Chooses the held-out examples: `(N,)` bool, `fraction` of each class."""
    # NumPy never changes the raw words of a bit generator, but may change `Generator.permutation` in any version
    # (NEP 19). Ranking raw words is a permutation that cannot change.
    lots = np.random.PCG64(seed).random_raw(len(labels))
    held_out = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = int(fraction * len(members) + 0.5)
        held_out[members[np.argsort(lots[members], kind="stable")[:count]]] = True
    return held_out
