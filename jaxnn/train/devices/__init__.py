"""Several devices and several processes."""

from jaxnn.train.devices import distributed
from jaxnn.train.devices.distributed import ProcessLostError
from jaxnn.train.devices.sharding import Parallel, parallel
from jaxnn.train.devices.shortage import OutOfMemoryError

__all__ = [
    "OutOfMemoryError",
    "Parallel",
    "ProcessLostError",
    "distributed",
    "parallel",
]
