"""Command lines of scripts that train: options from a dataclass, run folders, resume, and one-sentence errors.

All experiments of this project are such scripts, and yours can be one (`docs/experiments.md`). They need tyro, from the
extra `experiments`.
"""

from jaxnn.cli.checks import (
    MOST,
    Bound,
    Count,
    Natural,
    Number,
    Positive,
    Several,
    Share,
    as_typed,
    check,
    expect,
    option,
    steps_of,
    unused,
)
from jaxnn.cli.command import run
from jaxnn.cli.options import (
    Cosine,
    Devices,
    Epochs,
    Kept,
    Trained,
    check_run,
    dry_run,
    folder_of,
    join,
    keeping,
    parallel_of,
)

__all__ = [
    "MOST",
    "Bound",
    "Cosine",
    "Count",
    "Devices",
    "Epochs",
    "Kept",
    "Natural",
    "Number",
    "Positive",
    "Several",
    "Share",
    "Trained",
    "as_typed",
    "check",
    "check_run",
    "dry_run",
    "expect",
    "folder_of",
    "join",
    "keeping",
    "option",
    "parallel_of",
    "run",
    "steps_of",
    "unused",
]
