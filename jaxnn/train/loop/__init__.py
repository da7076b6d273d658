"""Training loops: epochs as one compiled program, streamed epochs, and `fit`."""

from jaxnn.train.loop.driver import Program, drive
from jaxnn.train.loop.epoch import epoch_order, make_epoch
from jaxnn.train.loop.fit import fit
from jaxnn.train.loop.nonfinite import NonFiniteLossError
from jaxnn.train.loop.sinks import STOP, Sink, early_stopping, time_limit
from jaxnn.train.loop.streamed import StreamedEpoch

__all__ = [
    "STOP",
    "NonFiniteLossError",
    "Program",
    "Sink",
    "StreamedEpoch",
    "drive",
    "early_stopping",
    "epoch_order",
    "fit",
    "make_epoch",
    "time_limit",
]
