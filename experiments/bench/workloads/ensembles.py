"""Eight CIFAR-10 networks in training: together by `vmap`, beside one after another."""

from experiments.bench.case import Case, Settings, Side
from experiments.bench.network import NETWORKS

MEMBERS = 8

SIDES = (
    Side("jaxnn, vmap", ".jaxnn_networks:ensemble", "jax", {"together": True}),
    Side("jaxnn, one after another", ".jaxnn_networks:ensemble", "jax", {"together": False}),
    Side("Flax NNX, vmap", ".flax_networks:ensemble"),
)


def cases(settings: Settings) -> list[Case]:
    """Batches of 32, the same pictures for all."""
    del settings
    flops = 32 * MEMBERS * NETWORKS["cifar10"].flops(train=True)
    options = {"network": "cifar10", "batch": 32, "steps": 1, "members": MEMBERS}
    return [Case(f"{MEMBERS} networks, batch 32, train", SIDES, options, 1, flops)]
