"""The one table of how each recurrent layer can be computed.

An algorithm is a function `(step, params, state, x, options) -> (y, state)` with the contract of `scan.scan`.
It raises `ValueError` where it cannot serve; only `"auto"` chooses.
"""

from collections.abc import Callable
from typing import Any

from jaxnn.functional.recurrent.scan import scan

Algorithm = Callable[..., Any]

ALGORITHMS: dict[str, dict[str, Algorithm]] = {
    "rnn": {"scan": scan},
    "gru": {"scan": scan},
    "lstm": {"scan": scan},
}

# What "auto" stands for.
AUTO: dict[str, str] = {"rnn": "scan", "gru": "scan", "lstm": "scan"}


def choose(layer: str, algorithm: str) -> Algorithm:
    """The algorithm of that name for that layer; raises `ValueError` with the names that serve."""
    served = ALGORITHMS[layer]
    name = AUTO[layer] if algorithm == "auto" else algorithm
    if name not in served:
        names = ", ".join(repr(n) for n in ("auto", *served))
        raise ValueError(f"algorithm must be one of {names} for {layer}, got {algorithm!r}")
    return served[name]
