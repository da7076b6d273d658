"""The record of an epoch on the host."""

from typing import Any

Record = dict[str, Any]
"""The numbers of one epoch by name: `epoch`, `step`, `train_loss`, `seconds` and others.

Metrics of an ensemble are lists, one number per member.
"""

History = list[Record]
"""One record per epoch."""
