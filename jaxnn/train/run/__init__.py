"""Output of a run: its folder, metrics, TensorBoard files, progress."""

from jaxnn.train.run.folder import RunFolder
from jaxnn.train.run.record import History, Record
from jaxnn.train.run.tensorboard import TensorBoard

__all__ = [
    "History",
    "Record",
    "RunFolder",
    "TensorBoard",
]
