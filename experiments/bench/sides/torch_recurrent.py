"""Recurrent layers in PyTorch, which on CUDA are cuDNN's."""

from collections.abc import Callable

import torch


def layer(
    kind: str,
    batch: int,
    time: int,
    features: int,
    hidden: int,
    train: bool,
    dtype: str = "float32",
    device: str = "cpu",
) -> Callable[[], object]:
    """Outputs over whole sequences, with all gradients where `train` says so."""
    torch.manual_seed(0)
    options = {"dtype": getattr(torch, dtype), "device": device}
    net = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](features, hidden, batch_first=True, **options)
    x = torch.randn(batch, time, features, requires_grad=train, **options)
    cotangent = torch.randn(batch, time, hidden, **options)

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> None:
        with torch.inference_mode():
            net(x)
        finish()

    def gradients() -> None:
        x.grad = None
        net.zero_grad(set_to_none=True)
        net(x)[0].backward(cotangent)
        finish()

    return gradients if train else forward
