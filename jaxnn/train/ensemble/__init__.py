"""Many training runs as one compiled program."""

from jaxnn.train.ensemble.fit import fit
from jaxnn.train.ensemble.members import create, grid, member
from jaxnn.train.ensemble.predict import predict
from jaxnn.train.ensemble.program import make
from jaxnn.train.ensemble.settings import Setting, settings
from jaxnn.train.ensemble.training import diverged

__all__ = [
    "Setting",
    "create",
    "diverged",
    "fit",
    "grid",
    "make",
    "member",
    "predict",
    "settings",
]
