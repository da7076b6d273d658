"""Checkpoints: saved whole or not at all, checked when read, resumed exactly."""

from jaxnn.train.checkpoint.file import load, save
from jaxnn.train.checkpoint.options import CheckpointError, Checkpoints, CheckpointWarning, Position
from jaxnn.train.checkpoint.restoring import restore
from jaxnn.train.checkpoint.saver import Saver
from jaxnn.train.checkpoint.signals import Interrupted

__all__ = [
    "CheckpointError",
    "CheckpointWarning",
    "Checkpoints",
    "Interrupted",
    "Position",
    "Saver",
    "load",
    "restore",
    "save",
]
