"""Training loops: epochs as one compiled program, streamed epochs, and `fit`."""

from jaxnn.train.loop.dry_run import dry_run
from jaxnn.train.loop.epoch import epoch_order, make_epoch
from jaxnn.train.loop.fit import fit
from jaxnn.train.loop.nonfinite import NonFiniteLossError
from jaxnn.train.loop.streamed import StreamedEpoch

__all__ = [
    "NonFiniteLossError",
    "StreamedEpoch",
    "dry_run",
    "epoch_order",
    "fit",
    "make_epoch",
]
