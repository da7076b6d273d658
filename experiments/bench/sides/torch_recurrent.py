"""Recurrent layers in PyTorch."""

from collections.abc import Callable

import torch


def layer(kind: str, batch: int, time: int, features: int, hidden: int, train: bool) -> Callable[[], object]:
    """Outputs over whole sequences, with all gradients where `train` says so."""
    torch.manual_seed(0)
    net = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](features, hidden, batch_first=True)
    x = torch.randn(batch, time, features, requires_grad=train)
    cotangent = torch.randn(batch, time, hidden)

    def forward() -> None:
        with torch.inference_mode():
            net(x)

    def gradients() -> None:
        x.grad = None
        net.zero_grad(set_to_none=True)
        net(x)[0].backward(cotangent)

    return gradients if train else forward
