"""The networks in Keras 3, on the backend in the worker's environment."""

from typing import Any

import keras

from experiments.bench.case import Work
from experiments.bench.network import NETWORKS
from experiments.bench.sides.pictures import batches, pictures


def step(network: str, batch: int, steps: int) -> Work:
    """Training steps by `train_on_batch`."""
    net = _model(network)
    data = batches(network, batch, steps)

    def work() -> None:
        for images, labels in data:
            net.train_on_batch(images, labels)

    return work


def forward(network: str, batch: int, steps: int) -> Work:
    """Logits of each batch by `predict_on_batch`."""
    net = _model(network)
    data = batches(network, batch, steps)
    return lambda: [net.predict_on_batch(images) for images, _ in data]


def epoch(network: str, batch: int, examples: int, data_dir: str | None) -> Work:
    """An epoch by `fit`."""
    net = _model(network)
    images, labels = pictures(network, examples, data_dir)
    net.fit(images[:batch], labels[:batch], batch_size=batch, epochs=1, verbose=0)
    return lambda: net.fit(images, labels, batch_size=batch, epochs=1, verbose=0)


def _model(network: str) -> Any:
    spec, layers = NETWORKS[network], keras.layers
    pool = {"max": layers.MaxPooling2D, "mean": layers.AveragePooling2D}[spec.pool]
    net = keras.Sequential(
        [
            keras.Input(spec.picture, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(spec.filters[0], 3, padding=spec.padding.lower(), activation="relu"),
            pool(2),
            layers.Conv2D(spec.filters[1], 3, padding=spec.padding.lower(), activation="relu"),
            pool(2),
            layers.Flatten(),
            layers.Dense(spec.hidden, activation=spec.activation),
            layers.Dense(spec.classes),
        ]
    )
    net.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return net
