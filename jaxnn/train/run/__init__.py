"""Output of a run: its folder, metrics, TensorBoard files, progress."""

from jaxnn.train.run.begin import resume_run, start_run
from jaxnn.train.run.config import load_config
from jaxnn.train.run.folder import RunFolder
from jaxnn.train.run.record import History, Record
from jaxnn.train.run.tensorboard import TensorBoard

__all__ = [
    "History",
    "Record",
    "RunFolder",
    "TensorBoard",
    "load_config",
    "resume_run",
    "start_run",
]
