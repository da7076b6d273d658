"""Recurrent layers in PyTorch, which calls cuDNN on CUDA."""

import torch

from experiments.bench.case import Work


def layer(
    kind: str,
    batch: int,
    time: int,
    features: int,
    hidden: int,
    train: bool,
    dtype: str = "float32",
    device: str = "cpu",
) -> Work:
    """Outputs over whole sequences; with `train` all gradients too."""
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
