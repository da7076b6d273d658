"""The measured networks, as sizes from which every library builds its layers."""

from typing import NamedTuple


class Network(NamedTuple):
    """Conv 32 of 3x3, ReLU, pool 2x2, conv 64 of 3x3, ReLU, pool 2x2, dense 512, `activation`, dense 10."""

    picture: tuple[int, int, int]
    padding: str
    pool: str
    activation: str
    filters: tuple[int, int] = (32, 64)
    hidden: int = 512
    classes: int = 10

    @property
    def maps(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the outputs of the two convolutions."""
        lost = 2 if self.padding == "VALID" else 0
        height, width, _ = self.picture
        first = height - lost, width - lost
        return first, (first[0] // 2 - lost, first[1] // 2 - lost)

    @property
    def features(self) -> int:
        """Number of inputs of the first dense layer."""
        height, width = self.maps[1]
        return (height // 2) * (width // 2) * self.filters[1]

    def flops(self, *, train: bool) -> float:
        """Floating-point operations for a picture, of the matrix products only; the pictures need no gradient."""
        (h1, w1), (h2, w2) = self.maps
        channels, (first, second) = self.picture[2], self.filters
        conv1 = h1 * w1 * 9 * channels * first
        rest = h2 * w2 * 9 * first * second + self.features * self.hidden + self.hidden * self.classes
        return 2.0 * (2 * conv1 + 3 * rest if train else conv1 + rest)


NETWORKS = {
    "cifar10": Network((32, 32, 3), "VALID", "max", "relu"),
    "lenet": Network((8, 8, 1), "SAME", "mean", "sigmoid"),
}
