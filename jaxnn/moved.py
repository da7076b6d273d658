"""Names that moved to another package: whoever still writes the old one reads the new one."""

from typing import Any

_LOSSES = {
    **{
        f"{name}_loss": f"train.losses.{name}"
        for name in ("binary", "classification", "ctc", "detection", "quantile", "regression", "sequence")
    },
    "l2": "train.losses.l2",
}
_ENSEMBLES = {f"{name}_ensemble": f"train.ensemble.{name}" for name in ("create", "fit", "make")}

_ROOMS = {
    "inspect": ("flops", "cost", "summary", "reliability", "scores"),
    "train.checkpoint": ("Saver", "CheckpointError", "CheckpointWarning", "Position", "Interrupted"),
    "train.run": ("TensorBoard",),
    "train.loop": ("StreamedEpoch", "NonFiniteLossError", "epoch_order"),
    "train.devices": ("OutOfMemoryError", "ProcessLostError", "Parallel"),
    "train.step": ("compiler_options",),
    "train.ensemble": ("diverged",),
}

MOVED = {
    "jaxnn.train": {
        **_LOSSES,
        **_ENSEMBLES,
        **{name: f"{room}.{name}" for room, names in _ROOMS.items() for name in names},
        "distributed": "train.devices.distributed",
        "grid": "train.ensemble.grid",
        "member": "train.ensemble.member",
        "plots": "plots",
        "weight_mask": "train.losses.weight_mask",
    },
    "jaxnn.train.ensemble": _ENSEMBLES,
    "jaxnn.train.step": {
        **_LOSSES,
        **{name: f"train.losses.{name}" for name in ("LossFn", "Metrics", "Penalty", "weight_mask")},
        "heatmap_loss": "train.losses.heatmap",
    },
}
"""By package: the new place of each old name."""


def explain(package: dict[str, Any]) -> None:
    """Lets a package answer for its old names, by an `AttributeError` that says where each is now.

    Args:
        package: The `globals()` of its `__init__.py`. Type checkers, which do not see that it gets a `__getattr__`,
            still refuse unknown names.

    Example:
        >>> from jaxnn import train
        >>> train.classification_loss
        Traceback (most recent call last):
        ...
        AttributeError: train.classification_loss: moved; use train.losses.classification.
    """
    module = package["__name__"]

    def missing(name: str) -> Any:
        if name in MOVED[module]:
            raise AttributeError(f"{module.removeprefix('jaxnn.')}.{name}: moved; use {MOVED[module][name]}.")
        raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)

    package["__getattr__"] = missing
