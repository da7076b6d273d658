"""The algorithms of `recurrent` by name, and how "auto" chooses among them.

An algorithm is a function `(cell, task, options) -> (ys, state)` with the contract of `scan.scan`. It raises
`NotServedError` for a cell or options that it does not support; only "auto" falls back to another.
"""

from collections.abc import Callable
from typing import Any

import jax

from jaxnn.functional.recurrent import associative, fused
from jaxnn.functional.recurrent.cell import Cell, NotServedError
from jaxnn.functional.recurrent.cudnn import cudnn
from jaxnn.functional.recurrent.newton import Newton
from jaxnn.functional.recurrent.persistent import persistent
from jaxnn.functional.recurrent.scan import scan
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.kernels.settings import is_plain

# "scan" calls `step` even if a cell has `project` and `advance`. Computing the inputs' products for all steps ahead of
# the loop is faster only for the gradients of a single sequence. CPU time of a forward pass and of all gradients, in
# milliseconds (two cores of a busy server CPU, float32, 128 features, 256 units; conv_lstm: 4 sequences of 10 pictures
# 16x16, 8 channels to 16):
#
#                              step                 ahead of the loop
#     32 sequences, 100 steps
#       mingru                 19.0   74            28.6   78
#       slstm                  142    482           121    432
#       lru                    62     245           59     237
#     1 sequence, 200 steps
#       mingru                 1.5    10.7          2.0    4.5
#       slstm                  8.7    47.6          7.9    35.7
#       lru                    1.5    27.5          1.3    21.2
#     conv_lstm                12.9   44.0          16.4   45.9
#
# Ahead of the loop, a forward pass needed 4.6 to 14 times the memory, in proportion to the number of steps, and a loop
# of `recurrent_step` would no longer give the same bits.

Algorithm = Callable[[Cell, Task, Options], tuple[Any, Any]]


def auto(cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    """Runs "fused" if it supports the cell, otherwise "scan"; on NVIDIA GPUs it tries "associative" first.

    The platform is the one that the program is lowered for. Inside `kernels.plain` "scan" runs on every platform.

    - On CPU "fused" was nowhere slower than "scan", and "associative" 7 to 14 times slower (one core of a server CPU,
      with all gradients, 1 to 128 sequences of 28 to 1000 steps, 64 to 512 units), so there is no rule by shape.
    - On an NVIDIA H200, with all gradients, in milliseconds:

      |                             | "scan" | "fused" | "associative" |
      |-----------------------------|--------|---------|---------------|
      | lstm 16,1024,256, float32   | 39.7   | 25.7    |               |
      | gru 64,256,1024, bfloat16   | 23.2   | 12.2    |               |
      | mingru 16,1024,256, float32 | 24.1   |         | 0.80          |
      | lru 16,1024,256, float32    | 34.9   |         | 0.93          |

    - Nothing was measured on TPU. A choice by platform traces one program for each, so cells without an `affine` form
      get the same algorithm everywhere, which halves the time of tracing.

    The other algorithms run by name only. Whether "newton" and "quasi-newton" converge depends on the weights (see
    `Newton`). "cudnn" waits for the host. "persistent" is much faster where it serves (docs/inside.md), but has no
    forward-mode derivative.

    For cells without a `fused` form, no such derivative is generated. For an LSTM a generated one (the weights'
    gradients as products outside of the loop, the rest of the step differentiated twice) took 287 ms, where "scan"
    takes 214 and "fused" 158 (32 sequences, 100 steps, 128 features, 256 units, two cores; 8 sequences, 200 steps of
    64: 19.9, 21.3, 11.1).
    """
    if is_plain():
        return scan(cell, task, options)
    try:
        associative.check(cell, task, options)
    except NotServedError:
        return _loop(cell, task, options)
    return jax.lax.platform_dependent(
        task,
        cuda=lambda task: associative.associative(cell, task, options),
        default=lambda task: _loop(cell, task, options),
    )


def _loop(cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    try:
        return fused.fused(cell, task, options)
    except NotServedError:
        return scan(cell, task, options)


ALGORITHMS: dict[str, Algorithm] = {
    "auto": auto,
    "scan": scan,
    "fused": fused.fused,
    "associative": associative.associative,
    "newton": Newton(),
    "quasi-newton": Newton(jacobian="diagonal"),
    "cudnn": cudnn,
    "persistent": persistent,
}


def choose(name: str | Newton) -> Algorithm:
    """Returns the algorithm of that name or with those settings; raises `ValueError` with the names."""
    if isinstance(name, Newton):
        return name
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm: expected one of {', '.join(map(repr, ALGORITHMS))}, got {name!r}")
    return ALGORITHMS[name]
