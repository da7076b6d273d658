"""The CIFAR-10 network: a training step called from Python or inside the compiled epoch, and the forward pass."""

from experiments.bench.case import Case, Settings
from experiments.bench.workloads import networks


def cases(settings: Settings) -> list[Case]:
    """Batches of 32, 128 and 512, fewer steps per call for larger batches."""
    steps = {32: 8} if settings.quick else {32: 8, 128: 4, 512: 2}
    return [case for batch, n in steps.items() for case in networks.cases("cifar10", batch, n, quick=settings.quick)]
