"""The one table of how each recurrent layer can be computed.

An algorithm is a function `(step, params, state, x, options) -> (y, state)` with the contract of `scan.scan`.
It raises `ValueError` where it cannot serve; only `"auto"` chooses.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxnn.functional.recurrent.fused import fused, missing
from jaxnn.functional.recurrent.params import Params, StateT
from jaxnn.functional.recurrent.scan import Options, scan
from jaxnn.functional.sharding import sharded

Algorithm = Callable[..., Any]


def auto(
    step: "partial[Any]", params: Params, state: StateT, x: jax.Array, options: Options
) -> tuple[jax.Array, StateT]:
    """On CPU "fused" where it serves, "scan" for the rest; on other platforms "scan".

    The platform is that which the program is lowered for. Measured on one core of a server CPU, with all gradients, for
    1 to 128 sequences of 28 to 1000 steps and 64 to 512 units, "fused" was nowhere slower than "scan", so there is no
    rule by shape.
    """
    # Where shardings are part of types, merging time and batch into the rows of one product would need a new one.
    if sharded((params, state, x)) or missing(step, params) is not None:
        return scan(step, params, state, x, options)
    arrays = (params, state, x, options.lengths, options.resets)

    def by(algorithm: Algorithm) -> Algorithm:
        def run(params: Params, state: StateT, x: jax.Array, lengths: Any, resets: Any) -> Any:
            return algorithm(step, params, state, x, options._replace(lengths=lengths, resets=resets))

        return run

    return jax.lax.platform_dependent(*arrays, cpu=by(fused), default=by(scan))


ALGORITHMS: dict[str, dict[str, Algorithm]] = {
    "rnn": {"auto": auto, "scan": scan, "fused": fused},
    "gru": {"auto": auto, "scan": scan, "fused": fused},
    "lstm": {"auto": auto, "scan": scan, "fused": fused},
}


def choose(layer: str, algorithm: str) -> Algorithm:
    """The algorithm of that name for that layer; raises `ValueError` with the names that serve."""
    served = ALGORITHMS[layer]
    if algorithm not in served:
        names = ", ".join(repr(n) for n in served)
        raise ValueError(f"algorithm must be one of {names} for {layer}, got {algorithm!r}")
    return served[algorithm]
