"""The workloads, a file for each. They import no peer: only the sides need the libraries."""

from collections.abc import Callable
from typing import NamedTuple

from experiments.bench.case import Case, Settings
from experiments.bench.workloads import cifar10, ensembles, epoch, layers, lenet, recurrent, start


class Workload(NamedTuple):
    """A workload's cases, and its share of the benchmark's time."""

    cases: Callable[[Settings], list[Case]]
    share: float


WORKLOADS = {
    "cifar10": Workload(cifar10.cases, 5),
    "lenet": Workload(lenet.cases, 1),
    "layers": Workload(layers.cases, 4),
    "recurrent": Workload(recurrent.cases, 6),
    "epoch": Workload(epoch.cases, 5),
    "ensembles": Workload(ensembles.cases, 1),
    "start": Workload(start.cases, 2),
}
