"""The definition of a recurrent cell: a few pure functions, which `recurrent` runs over time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxnn.functional.bound import Bound
from jaxnn.kernels.recurrence import NotServedError as NotServedError
from jaxnn.kernels.recurrence import projected

Activation = Callable[[jax.Array], jax.Array]
State = Any


def first_leaf(params: Any, state: State) -> Any:
    """The first array of a state: the default output of a cell."""
    return jax.tree.leaves(state)[0]


def input_products(params: Any, xs: jax.Array) -> jax.Array:
    """`Cell.project` of a cell with the parameters `w_x` and `b`: the inputs' part of all gates, with the bias."""
    return projected(xs, params.w_x, params.b)


class Blocks(NamedTuple):
    """Declares that the Jacobian of a step is block-diagonal: elements act on each other in groups of `size`.

    Which elements form a group follows from the state:

    - `size` arrays of one shape, as the `h` and `c` of an LSTM with elementwise recurrent weights: the elements at one
      position of all arrays.
    - One array `(*batch, ..., k * size)`: `size` neighbours along the last axis, from the first on.

    Other states cannot be split into blocks. Elements of different sequences never act on each other.

    Attributes:
        size: Number of rows of a block.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> def zero_state(params, batch, dtype):
        ...     return jnp.zeros((*batch, 3), dtype), jnp.zeros((*batch, 3), dtype)
        >>> def step(params, state, x):  # positions and velocities of three damped oscillators
        ...     position, velocity = state
        ...     return position + 0.1 * velocity, 0.9 * velocity - 0.1 * position + x
        >>> oscillators = F.Cell(zero_state, step, jacobian=F.Blocks(2))
        >>> y, _ = F.recurrent(oscillators, (), jnp.ones((50, 3)), algorithm="newton")
        >>> expected, _ = F.recurrent(oscillators, (), jnp.ones((50, 3)), algorithm="scan")
        >>> bool(jnp.allclose(y, expected, atol=1e-5))
        True
    """

    size: int


class Cell(NamedTuple):
    """A recurrent cell: static, hashable, made of pure functions. Parameters and states are any pytrees of arrays.

    `recurrent` needs only `zero_state` and `step`. Each optional part enables another way to compute the same result;
    `jaxnn.testing.assert_cell` checks that it agrees with `step`. Define the functions at the top level of a module, so
    that equal eager calls share one compiled program. Put whatever else a function needs into the parameters, or bind
    it with `functools.partial`.

    Attributes:
        zero_state: `(params, batch, dtype) -> state`: the state at the start of a sequence, for inputs of that dtype.
            Every array is `(*batch, ...)`; it may depend on the parameters.
        step: `(params, state, x) -> state`: the formula, for the input of one step, `x (*batch, *features)`. It returns
            arrays of the shapes and dtypes of `zero_state`.
        output: `(params, state) -> y`: the output after a step, `(*batch, ...)`. Default: the state's first array.
        feature_axes: Number of feature axes of `x`: 1 for vectors, 3 for pictures, 0 for tokens.
        check: `(params, x, axes) -> None`: raises `ValueError` if the parameters do not fit each other or `x`; `axes`
            names the axes of `x` for the message.
        project: `(params, xs) -> g`: the part of the step that needs no state; `g` is an array or a tree of arrays.
            "associative" and "newton" compute it for all steps at once, so `xs` has any number of batch axes, time
            among them.
        advance: `(params, state, g) -> state`: the rest of the step, so that `step(params, state, x)` is
            `advance(params, state, project(params, x))`.
        affine: `(params, g) -> (a, b)`: the step as `a * state + b`, elementwise; two trees like the state, of arrays
            that broadcast to its shapes. Without `project`, `g` is `x`. It enables "associative", which "auto" runs on
            NVIDIA GPUs, so products of many `a` must stay finite. That algorithm computes all steps at once: time is
            the first batch axis of `g`, and of the state that `output` receives.
        jacobian: Which elements of the state act on each other in one step: `"diagonal"` (each element on itself alone)
            or `Blocks(n)`. It enables "newton".
        fused: `(params) -> (kernel, weights)`: the same layer for `jaxnn.kernels.recurrence`, with a hand-written
            derivative; raises `NotServedError` for parameters without one. It enables "fused" if the output is the
            state's first array.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> def zero_state(decay, batch, dtype):
        ...     return jnp.zeros((*batch, *decay.shape), dtype)
        >>> def step(decay, state, x):
        ...     return jnp.broadcast_to(decay, x.shape) * state + x
        >>> average = F.Cell(zero_state, step)
        >>> y, state = F.recurrent(average, jnp.array([0.5]), jnp.ones((4, 1)))
        >>> y[:, 0].tolist()
        [1.0, 1.5, 1.75, 1.875]
    """

    zero_state: Callable[..., State]
    step: Callable[..., State]
    output: Callable[..., Any] = first_leaf
    feature_axes: int = 1
    check: Callable[..., None] | None = None
    project: Callable[..., Any] | None = None
    advance: Callable[..., State] | None = None
    affine: Callable[..., tuple[State, State]] | None = None
    jacobian: Any = None
    fused: Callable[..., tuple[Any, Any]] | None = None


def two_part_cell(zero_state: Any, project: Any, advance: Any, **parts: Any) -> Cell:
    """A cell whose step is `advance` after `project`."""
    step = Bound(_two_part_step, project=project, advance=advance)
    return Cell(zero_state, step, project=project, advance=advance, **parts)


def _two_part_step(params: Any, state: State, x: jax.Array, *, project: Any, advance: Any) -> State:
    return advance(params, state, project(params, x))
