"""Training loops: epochs as one compiled program, streamed epochs, and `fit`."""

from jaxnn.train.loop.computed import TBPTT, Chunk, Computed, Generated
from jaxnn.train.loop.driver import Program, drive
from jaxnn.train.loop.dry_run import dry_run
from jaxnn.train.loop.epoch import epoch_order, make_epoch
from jaxnn.train.loop.fit import fit
from jaxnn.train.loop.nonfinite import NonFiniteLossError
from jaxnn.train.loop.plain_errors import plain_errors
from jaxnn.train.loop.segments import Budget, Segments, cosine
from jaxnn.train.loop.sinks import STOP, Sink, early_stopping, time_limit
from jaxnn.train.loop.stateful import Stateful, bits_per_token, next_token_loss
from jaxnn.train.loop.streamed import StreamedEpoch

__all__ = [
    "STOP",
    "TBPTT",
    "Budget",
    "Chunk",
    "Computed",
    "Generated",
    "NonFiniteLossError",
    "Program",
    "Segments",
    "Sink",
    "Stateful",
    "StreamedEpoch",
    "bits_per_token",
    "cosine",
    "drive",
    "dry_run",
    "early_stopping",
    "epoch_order",
    "fit",
    "make_epoch",
    "next_token_loss",
    "plain_errors",
    "time_limit",
]
