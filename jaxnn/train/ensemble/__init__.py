"""Many training runs as one compiled program."""

from jaxnn.train.ensemble.fit import fit_ensemble
from jaxnn.train.ensemble.members import create_ensemble, grid, member
from jaxnn.train.ensemble.predict import predict
from jaxnn.train.ensemble.program import make_ensemble
from jaxnn.train.ensemble.settings import Setting, settings
from jaxnn.train.ensemble.training import diverged

__all__ = [
    "Setting",
    "create_ensemble",
    "diverged",
    "fit_ensemble",
    "grid",
    "make_ensemble",
    "member",
    "predict",
    "settings",
]
