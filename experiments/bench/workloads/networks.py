"""A network's training step and forward pass, by every library: what `cifar10` and `lenet` share."""

from experiments.bench.case import Case, Side
from experiments.bench.network import NETWORKS

TRAIN = (
    Side("jaxnn, step in the epoch", ".jaxnn_networks:scanned"),
    Side("jaxnn, step from Python", ".jaxnn_networks:step"),
    Side("PyTorch", ".torch_networks:step", "torch"),
    Side("PyTorch, compiled", ".torch_networks:step", "torch", {"compiled": True}),
    Side("Keras on TensorFlow", ".keras_networks:step", "keras-tensorflow"),
    Side("Keras on JAX", ".keras_networks:step", "keras-jax"),
    Side("Flax NNX", ".flax_networks:step"),
    Side("Haiku", ".haiku_networks:step"),
    Side("Equinox", ".equinox_networks:step"),
)
FORWARD = (
    Side("jaxnn", ".jaxnn_networks:forward"),
    *(
        Side(side.name, side.builder.replace(":step", ":forward"), side.worker, side.options)
        for side in TRAIN
        if side.library != "jaxnn"
    ),
)


def cases(network: str, batch: int, steps: int, *, quick: bool) -> list[Case]:
    """Training and, unless `quick`, forward; compiling takes PyTorch too long to be quick."""
    spec, options = NETWORKS[network], {"network": network, "batch": batch, "steps": steps}
    train = tuple(side for side in TRAIN if not (quick and side.options.get("compiled")))
    found = [Case(f"batch {batch}, train", train, options, steps, batch * spec.flops(train=True), weight=2.0)]
    if not quick:
        found.append(Case(f"batch {batch}, forward", FORWARD, options, steps, batch * spec.flops(train=False)))
    return found
