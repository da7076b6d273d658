"""Types of losses, metrics and penalties."""

from collections.abc import Callable
from typing import Any

import jax

Metrics = dict[str, jax.Array]
"""Metrics by name."""

LossFn = Callable[[Any, Any, jax.Array | None], tuple[jax.Array, Metrics]]
"""`(model, batch, key) -> (losses (batch,), {name: (batch,)})`; `key` is None in evaluation.

With `reduction="batch"` the loss is `()`, and metrics are `()` or `(batch,)`.
"""

Penalty = Callable[[Any], jax.Array]
"""`(params) -> ()`."""
