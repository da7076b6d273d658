"""Checks of a recurrent layer over time: padding, streaming, direction, gradients, resets."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from jaxnn.testing.floating import as_sequences
from jaxnn.testing.names import check_names
from jaxnn.testing.sequence_checks import CHECKS, Layer, SequenceCheck, Subject

Tree = Any
Direction = Literal["forward", "backward"]


def assert_sequence_invariant(
    layer: Layer,
    params: Tree,
    x: jax.typing.ArrayLike,
    *,
    checks: Sequence[SequenceCheck] | None = None,
    step: Callable[[Tree, Tree, jax.Array], Tree] | None = None,
    output: Callable[[Tree, Tree], Tree] | None = None,
    directions: Sequence[Direction] = ("forward", "backward"),
    reduction: int | None = None,
    roundings: int | None = None,
    state: Tree | None = None,
    seed: int = 0,
) -> None:
    """Asserts that a recurrent layer treats time correctly, whatever its formula.

    The lengths (from 0 to all steps), the mask, the resets and, unless given, the initial state are generated. All
    results are compared with `layer(params, x[n])` on one sequence without padding.

    - `"padding"`: with `lengths`, each sequence gives the outputs and the final state that it gives alone, cut to its
      length, and zeros past the end. Length 0 returns the initial state. Inputs past the end have no effect, not even
      NaN and infinity. All of this also holds with `reverse=True`.
    - `"streaming"`: a loop of `step` gives the layer's outputs and final state.
    - `"chunks"`: a sequence cut into chunks, each starting from the final state of the previous one, gives the same as
      the whole. A layer that runs backward receives its chunks from last to first.
    - `"reversal"`: `reverse=True` gives the outputs of the sequence reversed within its length, reversed back, and
      the same final state: that of the first step, not of the last.
    - `"gradients"`: gradients with respect to parameters, inputs and initial state are those of the sequences alone.
      They are zero for inputs past a length, and finite even if these are NaN. No output depends on an input that comes
      later in the layer's direction, or on another sequence of the batch.
    - `"resets"`: a sequence with `resets` gives the same as its parts alone, each starting as with `state=None`. The
      gradient of a part's outputs with respect to other parts is zero.
    - `"mask"`: with `mask`, each sequence gives the outputs, final state and gradients that it gives alone without the
      masked steps, and zeros at these steps, whatever their inputs are.

    Args:
        layer: `layer(params, x, state=None, *, lengths=None, reverse=False, resets=None) -> (y, state)` with `x`
            of shape `(*batch, time, *features)`, states and resets as in `functional.lstm`; for `"mask"` it takes
            `mask=None` too. Outputs and states are arrays or trees of arrays of any rank. Bind options with
            `functools.partial`.
        params: Its parameters, any pytree.
        x: `(batch, time, *features)` floats, at least 2 sequences of at least 4 steps. More sequences try more lengths.
        checks: Names of the checks. Default: all but `"mask"`, and `"streaming"` where `step` is given.
        step: `step(params, state, x) -> state` with `x` of shape `(*batch, *features)`. For `"streaming"`.
        output: `output(params, state) -> y`, the output after a step; by default the state's first leaf. For
            `"streaming"`.
        directions: Directions to check padding, chunks, gradients, resets and masks in; "backward" is `reverse=True`.
        reduction: Number of products in each sum, for the tolerance; see `tolerance`. Default: the size of the largest
            leaf of `params`.
        roundings: See `tolerance`. Default: 8 per time step.
        state: The initial state, `(batch, ...)`. Default: random normal values, for integers their
            magnitudes; pass a state if not every value is valid.
        seed: Seed of the initial state and the mask.

    Raises:
        AssertionError: If a check fails; the message names the check and the worst element.
        ValueError: If a check is unknown, `x` does not fit, or `"streaming"` lacks its `step`.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> from jaxnn import testing
        >>> k0, k1 = jax.random.split(jax.random.key(0))
        >>> params, x = F.init_gru(k0, features=2, hidden=3), jax.random.normal(k1, (3, 5, 2))
        >>> testing.assert_sequence_invariant(F.gru, params, x, checks=["streaming"], step=F.gru_step)
        >>> def forgets_resets(params, x, state=None, resets=None, **options):
        ...     return F.gru(params, x, state, **options)
        >>> testing.assert_sequence_invariant(forgets_resets, params, x, checks=["resets"])
        Traceback (most recent call last):
        ...
        AssertionError: forgets_resets, resets: outputs against the parts by themselves: ...
    """
    check_names("checks", checks, CHECKS)
    chosen = [c for c in CHECKS if c != "mask" and (c != "streaming" or step)] if checks is None else checks
    if "streaming" in chosen and step is None:
        raise ValueError("step: expected the layer's step for the check 'streaming', got None")
    values = as_sequences(x)
    if not directions or set(directions) - {"forward", "backward"}:
        raise ValueError(f"directions: expected some of 'forward', 'backward', got {directions}")
    reverses = [d == "backward" for d in directions]
    with jax.default_matmul_precision("highest"):
        subject = Subject(layer, params, values, step, output, reverses, reduction, roundings, state, seed)
        for check in chosen:
            CHECKS[check](subject)
