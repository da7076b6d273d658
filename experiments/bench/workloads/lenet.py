"""LeNet on pictures in the shape of the digits."""

from experiments.bench.case import Case, Settings
from experiments.bench.workloads import networks


def cases(settings: Settings) -> list[Case]:
    """Batches of 32."""
    return networks.cases("lenet", 32, 16, quick=settings.quick)
