"""An epoch of `experiments.cifar10` with batches of 128, compared with `fit` in Keras and a plain loop in PyTorch."""

from experiments.bench.case import Case, Settings, Side
from experiments.bench.network import NETWORKS

SIDES = (
    Side("jaxnn", ".jaxnn_networks:epoch"),
    Side("PyTorch", ".torch_networks:epoch", "torch"),
    Side("Keras on TensorFlow", ".keras_networks:epoch", "keras-tensorflow"),
)


def cases(settings: Settings) -> list[Case]:
    """One epoch of 50,000 pictures. The builders compile, and every epoch counts."""
    examples = 5_000 if settings.quick else 50_000
    data_dir = None if settings.data_dir is None else str(settings.data_dir)
    options = {"network": "cifar10", "batch": 128, "examples": examples, "data_dir": data_dir}
    flops = examples * NETWORKS["cifar10"].flops(train=True)
    return [Case(f"epoch of {examples:,} pictures", SIDES, options, 1, flops, warm_up=False)]
