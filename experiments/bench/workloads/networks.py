"""A network's training step and forward pass in every library, for `cifar10` and `lenet`."""

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
# The fastest sides; the other libraries on JAX compute the same as Flax.
FEWER = ("PyTorch", "Keras on TensorFlow", "Flax NNX")
FORWARD = (
    Side("jaxnn", ".jaxnn_networks:forward"),
    *(
        Side(side.name, side.builder.replace(":step", ":forward"), side.worker, side.options)
        for side in TRAIN
        if side.name in FEWER or side.options
    ),
)


def cases(network: str, batch: int, steps: int, *, quick: bool) -> list[Case]:
    """Training and, unless `quick`, the forward pass.

    Batches above 128 take long, so only the sides in `FEWER` train with them. `torch.compile` takes long, so it is
    measured only for batches of 128.
    """
    spec, options = NETWORKS[network], {"network": network, "batch": batch, "steps": steps}
    train = tuple(
        side
        for side in TRAIN
        if side.library == "jaxnn" or side.name in FEWER or (batch == 128 if side.options else batch <= 128)
    )
    found = [Case(f"batch {batch}, train", train, options, steps, batch * spec.flops(train=True), weight=2.0)]
    if not quick:
        forward = tuple(side for side in FORWARD if batch == 128 or not side.options)
        found.append(Case(f"batch {batch}, forward", forward, options, steps, batch * spec.flops(train=False)))
    return found
