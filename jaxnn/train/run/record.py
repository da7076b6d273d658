"""The record of an epoch on the host."""

Record = dict[str, int | float]
"""The numbers of one epoch by name: `epoch`, `step`, `train_loss`, `seconds` and so on."""

History = list[Record]
"""One record per epoch."""
