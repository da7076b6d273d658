"""The linear recurrent unit: a diagonal linear recurrence of complex numbers."""

import math
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxnn.functional import arguments
from jaxnn.functional.exportable import exportable
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.cell import Cell, two_part_cell
from jaxnn.functional.recurrent.run import RunOptions, recurrent, recurrent_step
from jaxnn.kernels.accumulate import accumulator
from jaxnn.kernels.recurrence import dot
from jaxnn.shapes import shown


@exportable
@shown
class LRUState(NamedTuple):
    """State of a linear recurrent unit.

    The state holds the input of the last step, which the output needs for the term :math:`D x_t`. If it held the output
    instead, the recurrence would not be elementwise.

    Attributes:
        h: `(*batch, hidden)`, complex as in the paper: split into real and imaginary parts, the recurrence would not be
            elementwise. complex128 for float64 inputs, complex64 for all others.
        x: `(*batch, features)`, the input of the last step.
    """

    h: jax.Array
    x: jax.Array


@exportable
@shown
class LRUParams(NamedTuple):
    r"""Parameters of a linear recurrent unit, all real, named as in the paper.

    Attributes:
        nu_log: `(hidden,)`, which determines the modulus of :math:`\lambda`.
        theta_log: `(hidden,)`, which determines the phase of :math:`\lambda`.
        gamma_log: `(hidden,)`, the logarithm of the normalisation.
        b: `(features, 2 * hidden)`, :math:`B`: real parts, then imaginary parts.
        c: `(2 * hidden, output)`, :math:`C`: real parts, then imaginary parts.
        d: `(features, output)`, :math:`D`: `jnp.diag(v)` for the vector `v` of the paper's listing.
    """

    nu_log: jax.Array
    theta_log: jax.Array
    gamma_log: jax.Array
    b: jax.Array
    c: jax.Array
    d: jax.Array

    @property
    def hidden(self) -> int:
        """Number of complex hidden units."""
        return self.c.shape[0] // 2

    @property
    def output(self) -> int:
        """Number of output features."""
        return self.c.shape[1]

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> LRUState:
        """The default initial state for inputs of `dtype`."""
        batch = arguments.shape("batch", batch)
        part = jnp.zeros((*batch, self.hidden), accumulator(dtype))
        return LRUState(jax.lax.complex(part, part), jnp.zeros((*batch, self.b.shape[0]), dtype))


def lru_step(params: LRUParams, state: LRUState, x: jax.typing.ArrayLike) -> LRUState:
    r"""One step of a linear recurrent unit.

    .. math::

        \begin{aligned}
        \lambda &= \exp(-\exp(\nu^{\log}) + i \exp(\theta^{\log})) \\
        h_t &= \lambda \odot h_{t-1} + \exp(\gamma^{\log}) \odot (B x_t) \\
        y_t &= \mathrm{Re}(C h_t) + D x_t
        \end{aligned}

    :math:`|\lambda| < 1` whatever the parameters are, so the state stays bounded.

    Args:
        params: The layer's parameters.
        state: `h` of shape `(*batch, hidden)`, complex, and `x` of shape `(*batch, features)`, whose values have no
            effect on the new state.
        x: `(*batch, features)`.

    Returns:
        The new state. The output is `lru_cell().output(params, state)`, of shape `(*batch, output)`.

    Raises:
        ValueError: If shapes or dtypes do not fit each other.

    References:
        Orvieto et al., Resurrecting recurrent neural networks for long sequences, 2023.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_lru(jax.random.key(0), features=3, hidden=5, output=2)
        >>> state = F.lru_step(params, params.zero_state((2,), jnp.float32), jnp.ones((2, 3)))
        >>> state.h.shape, state.h.dtype, F.lru_cell().output(params, state).shape
        ((2, 5), dtype('complex64'), (2, 2))
    """
    return recurrent_step(lru_cell(), params, state, x)


def lru_cell() -> Cell:
    """Returns the cell of `lru`, for `recurrent` and functions that take any cell.

    Returns:
        The cell, of `LRUParams` and `LRUState`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_lru(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.recurrent(F.lru_cell(), params, jnp.ones((2, 7, 3)))
        >>> y.shape
        (2, 7, 5)
    """
    return two_part_cell(LRUParams.zero_state, _project, _advance, output=_output, check=_check, affine=_affine)


def lru(
    params: LRUParams, x: jax.typing.ArrayLike, state: LRUState | None = None, **options: Unpack[RunOptions]
) -> tuple[jax.Array, LRUState]:
    """Runs linear recurrent units over every time step; `lru_step` states the formula.

    The recurrence is linear, so it supports `algorithm="associative"`.

    Args:
        params: The layer's parameters.
        x: `(*batch, time, features)`.
        state: The initial state, `h` of shape `(*batch, hidden)`, complex, and `x` of shape `(*batch, features)`; zeros
            by default.
        **options: How the sequence is run, as in `recurrent`: `lengths`, `mask`, `reverse`, `resets`, `time_major`,
            `remat`, `truncate` and `algorithm`.

    Returns:
        The outputs `(*batch, time, output)`, real, and the final state.

    Raises:
        ValueError: As `recurrent`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_lru(jax.random.key(0), features=3, hidden=5, r_min=0.9, r_max=0.999)
        >>> y, state = F.lru(params, jnp.ones((2, 7, 3)), algorithm="associative")
        >>> y.shape, y.dtype, state.h.shape
        ((2, 7, 5), dtype('float32'), (2, 5))
    """
    return recurrent(lru_cell(), params, x, state, **options)


def init_lru(
    key: jax.Array,
    features: int,
    hidden: int,
    *,
    output: int | None = None,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> LRUParams:
    r"""Random parameters of a linear recurrent unit, as the paper draws them.

    The eigenvalues :math:`\lambda` lie on a ring of the complex plane, uniformly by area: :math:`|\lambda|^2` between
    :math:`r_{min}^2` and :math:`r_{max}^2`, the phase between 0 and `max_phase`. The normalisation is
    :math:`\gamma = \sqrt{1 - |\lambda|^2}`, so that for white inputs the states have the variance of :math:`B x`,
    however long the memory is. Entries of :math:`B`, :math:`C` and :math:`D` are normal, with standard deviations
    :math:`1 / \sqrt{2\, features}` (each part), :math:`1 / \sqrt{hidden}` (each part) and 1.

    Args:
        key: A random key.
        features: Number of input features.
        hidden: Number of complex hidden units.
        output: Number of output features; `hidden` by default.
        r_min: Smallest modulus, at least 0. For long memory choose `r_min` and `r_max` near 1.
        r_max: Largest modulus, above `r_min` and at most 1.
        max_phase: Largest phase in radians, above 0 and at most 2π. Choose a small one for very long sequences.
        dtype: Dtype of all parameters.

    Returns:
        The parameters.

    Raises:
        ValueError: If a size, `r_min`, `r_max` or `max_phase` lies outside its range.

    References:
        Orvieto et al., Resurrecting recurrent neural networks for long sequences, 2023.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> params = F.init_lru(jax.random.key(0), features=3, hidden=5, output=2)
        >>> params.nu_log.shape, params.b.shape, params.c.shape, params.d.shape
        ((5,), (3, 10), (10, 2), (3, 2))
    """
    output = hidden if output is None else output
    check.init(key, features=features, hidden=hidden, output=output)
    if not 0 <= r_min < r_max <= 1:
        raise ValueError(f"r_min, r_max: expected 0 <= r_min < r_max <= 1, got {r_min} and {r_max}; they are moduli.")
    if not 0 < max_phase <= 2 * math.pi:
        raise ValueError(f"max_phase: expected an angle in (0, 2π], got {max_phase}; give it in radians.")
    k_nu, k_theta, k_b, k_c, k_d = jax.random.split(key, 5)
    wide = accumulator(dtype)
    # A modulus of 0 or 1 and a phase of 0 have no logarithm.
    least = float(jnp.finfo(wide).eps)
    u, v = (jax.random.uniform(k, (hidden,), wide, minval=least) for k in (k_nu, k_theta))
    log_square = jnp.log(jnp.clip(r_min**2 + u * (r_max**2 - r_min**2), least, 1 - least))  # of the modulus

    def normal(key: jax.Array, shape: tuple[int, int], deviation: float) -> jax.Array:
        return (deviation * jax.random.normal(key, shape, wide)).astype(dtype)

    return LRUParams(
        nu_log=jnp.log(-0.5 * log_square).astype(dtype),
        theta_log=jnp.log(max_phase * v).astype(dtype),
        gamma_log=(0.5 * jnp.log(-jnp.expm1(log_square))).astype(dtype),
        b=normal(k_b, (features, 2 * hidden), 1 / math.sqrt(2 * features)),
        c=normal(k_c, (2 * hidden, output), 1 / math.sqrt(hidden)),
        d=normal(k_d, (features, output), 1.0),
    )


def _check(params: LRUParams, x: jax.Array, axes: str) -> None:
    check.weights(params, LRUParams, ("b", "d", "c"))
    h, features, output = params.hidden, params.b.shape[0], params.output
    vectors = dict.fromkeys(("nu_log", "theta_log", "gamma_log"), (h,))
    check.shapes({**vectors, "b": (features, 2 * h), "c": (2 * h, output), "d": (features, output)}, params, "c")
    check.features(params, x, axes, "b")


def _eigenvalues(params: LRUParams) -> jax.Array:
    """The vector λ."""
    wide = accumulator(params.nu_log.dtype)
    modulus = jnp.exp(-jnp.exp(params.nu_log.astype(wide)))
    phase = jnp.exp(params.theta_log.astype(wide))
    return jax.lax.complex(modulus * jnp.cos(phase), modulus * jnp.sin(phase))


def _project(params: LRUParams, xs: jax.Array) -> LRUState:
    """The terms that the inputs add to the states: γ B x, and the inputs themselves."""
    parts = dot(xs, params.b)
    gamma = jnp.exp(params.gamma_log.astype(parts.dtype))
    gamma = jnp.broadcast_to(jnp.concatenate([gamma, gamma]), parts.shape)
    real, imaginary = jnp.split(gamma * parts, 2, axis=-1)
    return LRUState(jax.lax.complex(real, imaginary), xs)


def _affine(params: LRUParams, g: LRUState) -> tuple[LRUState, LRUState]:
    return LRUState(_eigenvalues(params), jnp.zeros((), g.x.dtype)), g


def _advance(params: LRUParams, state: LRUState, g: LRUState) -> LRUState:
    return LRUState(jnp.broadcast_to(_eigenvalues(params), g.h.shape) * state.h + g.h, g.x)


def _output(params: LRUParams, state: Any) -> jax.Array:
    parts = jnp.concatenate([state.h.real, -state.h.imag], axis=-1).astype(params.c.dtype)
    return (dot(parts, params.c) + dot(state.x, params.d)).astype(state.x.dtype)
