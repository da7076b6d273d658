"""What the host keeps of an epoch."""

Record = dict[str, int | float]
"""The numbers of one epoch by name: `epoch`, `step`, `train_loss`, `seconds` and so on."""

History = list[Record]
"""One record per epoch."""
