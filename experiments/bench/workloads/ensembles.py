"""Training of sixteen CIFAR-10 networks: as one ensemble, or as single runs one after another."""

from experiments.bench.case import Case, Settings, Side
from experiments.bench.network import NETWORKS

MEMBERS, STEPS = 16, 4

SIDES = (
    Side("jaxnn, ensemble", ".jaxnn_networks:ensemble", "jax", {"at_once": MEMBERS}),
    Side("jaxnn, ensemble in chunks of 4", ".jaxnn_networks:ensemble", "jax", {"at_once": 4}),
    Side("jaxnn, ensemble in chunks of 1", ".jaxnn_networks:ensemble", "jax", {"at_once": 1}),
    Side("jaxnn, single runs", ".jaxnn_networks:ensemble", "jax", {"at_once": None}),
    Side("Flax NNX, vmap", ".flax_networks:ensemble"),
)


def cases(settings: Settings) -> list[Case]:
    """Batches of 32, the same for all networks. The peak memory does not include the states and the pictures."""
    del settings
    flops = 32 * MEMBERS * NETWORKS["cifar10"].flops(train=True)
    options = {"network": "cifar10", "batch": 32, "steps": STEPS, "members": MEMBERS}
    return [Case(f"{MEMBERS} networks, batch 32, train", SIDES, options, STEPS, flops)]
