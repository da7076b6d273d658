"""The networks in PyTorch, channels last, with fused Adam; with `compiled` by `torch.compile`."""

from collections.abc import Callable
from typing import Any

import torch

from experiments.bench.case import Work
from experiments.bench.network import NETWORKS
from experiments.bench.sides.pictures import pictures


def step(network: str, batch: int, steps: int, compiled: bool = False) -> Work:
    """Training steps, called from Python."""
    images, labels = _tensors(network, batch * steps)
    one = _step(network, compiled)

    def work() -> None:
        for i in range(0, batch * steps, batch):
            one(images[i : i + batch], labels[i : i + batch])

    return work


def forward(network: str, batch: int, steps: int, compiled: bool = False) -> Work:
    """Logits of each batch."""
    images, _ = _tensors(network, batch * steps)
    net = _model(network, compiled).eval()

    def work() -> None:
        with torch.inference_mode():
            for i in range(0, batch * steps, batch):
                net(_floats(images[i : i + batch]))

    return work


def epoch(network: str, batch: int, examples: int, data_dir: str | None) -> Work:
    """An epoch in a plain loop over shuffled pictures in memory."""
    images, labels = _tensors(network, examples, data_dir)
    one = _step(network, compiled=False)
    one(images[:batch], labels[:batch])

    def work() -> None:
        for part in torch.randperm(examples).split(batch):
            one(images[part], labels[part])

    return work


def _step(network: str, compiled: bool) -> Callable[[Any, Any], None]:
    net = _model(network, compiled)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def one(images: Any, labels: Any) -> None:
        adam.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(_floats(images)), labels).backward()
        adam.step()

    return one


def _tensors(network: str, number: int, data_dir: str | None = None) -> tuple[Any, Any]:
    images, labels = pictures(network, number, data_dir)
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def _floats(images: Any) -> Any:
    """Converts uint8 to floats and moves the channels to the second axis; the order in memory does not change."""
    return images.permute(0, 3, 1, 2).float() / 255


def _model(network: str, compiled: bool) -> Any:
    spec, nn = NETWORKS[network], torch.nn
    torch.manual_seed(0)
    pool = {"max": nn.MaxPool2d, "mean": nn.AvgPool2d}[spec.pool]
    net = nn.Sequential(
        nn.Conv2d(spec.picture[2], spec.filters[0], 3, padding=spec.padding.lower()),
        nn.ReLU(),
        pool(2),
        nn.Conv2d(*spec.filters, 3, padding=spec.padding.lower()),
        nn.ReLU(),
        pool(2),
        nn.Flatten(),
        nn.Linear(spec.features, spec.hidden),
        {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[spec.activation](),
        nn.Linear(spec.hidden, spec.classes),
    ).to(memory_format=torch.channels_last)
    return torch.compile(net) if compiled else net
