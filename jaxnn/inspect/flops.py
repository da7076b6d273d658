"""Floating-point operations of a function, counted in the jaxpr that JAX traces and not in the program that XLA makes.

XLA's count (`compiled.cost_analysis()`) counts the body of a loop once, however often it runs, and does not count the
work of a library that it calls. Training consists of loops: the steps of an epoch, the time of a recurrent layer, the
blocks of a batch in `jaxnn.kernels` on CPU.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr

from jaxnn.kernels.platform import formulation


def flops(function: Callable[..., Any], *args: Any) -> int:
    r"""Counts the floating-point operations of the products in a function, 2 for each multiply-add.

    The products are those of matrices and convolutions: nearly all work of a network, and what its FLOPs usually mean.
    A product of :math:`(m, k)` and :math:`(k, n)` counts :math:`2 m k n`, a convolution

    .. math:: 2 \cdot \text{batch} \cdot \text{out} \cdot \frac{\text{in}}{\text{groups}} \cdot P

    with :math:`P` the number of times that a tap of the window meets an input and not padding. So a convolution and its
    two gradients count the same, on every platform and for every formulation of `jaxnn.kernels`. Element-wise work,
    sums and comparisons are not counted.

    The body of a `scan`, or of another loop of known length, counts once per iteration; a `while` loop counts once,
    since its length is unknown. A `cond` counts as its most expensive branch. Unused results do not count, as they are
    not computed. A `shard_map` counts the parts of all devices, a Pallas kernel all its programs; a foreign call counts
    nothing, since its work is unknown.

    Args:
        function: Any function, jitted or not, for example a gradient.
        *args: Its arguments, or `jax.ShapeDtypeStruct`s instead: nothing is computed.

    Returns:
        The number, for all devices together.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import inspect, train
        >>> x, w = jnp.ones((8, 100)), jnp.ones((100, 10))
        >>> inspect.flops(jnp.dot, x, w)
        16000
        >>> def layers(w, x):
        ...     return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=5)[0].sum()
        >>> w = jnp.ones((100, 100))
        >>> inspect.flops(layers, w, x)  # five times 2 * 8 * 100 * 100
        800000
        >>> inspect.flops(jax.grad(layers), w, x)  # the same again for the gradient of w, and of x
        2400000
    """
    return of_jaxpr(jax.make_jaxpr(function)(*args))


def of_jaxpr(closed: ClosedJaxpr) -> int:
    """Counts the FLOPs of a jaxpr: `jax.jit(function).trace(*args).jaxpr`."""
    live, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    return _total(live)


def _total(jaxpr: Jaxpr) -> int:
    return sum(map(_of, jaxpr.eqns))


def _of(equation: JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _product(equation)
    if name == "conv_general_dilated":
        return _convolution(equation)
    plain = formulation(equation.primitive)
    if plain is not None:
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in _avals(equation.invars)]
        return _total(jax.make_jaxpr(partial(plain, **params))(*shapes).jaxpr)
    inner = [_total(jaxpr) for jaxpr in jaxprs_in_params(params)]
    if name == "cond":
        return max(inner)
    return _repeats(name, params) * sum(inner)


def _repeats(name: str, params: dict[str, Any]) -> int:
    """Returns how often an equation runs its inner programs."""
    if name == "scan":
        return int(params["length"])
    if name == "shard_map":
        return math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
    if name == "pallas_call":
        return math.prod(params["grid_mapping"].grid)
    return 1


def _product(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, _, out = (aval.shape for aval in _avals([*equation.invars, *equation.outvars]))
    return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _convolution(equation: JaxprEqn) -> int:
    params = equation.params
    of_x, of_kernel, of_y = params["dimension_numbers"]
    x, kernel, y = (aval.shape for aval in _avals([*equation.invars, *equation.outvars]))
    pairs = 1
    for axis, (stride, padding, hole, dilation) in enumerate(
        zip(params["window_strides"], params["padding"], params["lhs_dilation"], params["rhs_dilation"], strict=True),
        start=2,
    ):
        places = np.arange(y[of_y[axis]]) * stride - padding[0]
        pairs *= _meetings(places, np.arange(kernel[of_kernel[axis]]) * dilation, x[of_x[axis]], hole)
    return 2 * y[of_y[0]] * y[of_y[1]] * kernel[of_kernel[1]] * pairs


def _meetings(places: np.ndarray, taps: np.ndarray, size: int, hole: int) -> int:
    """Counts the pairs of a window's place and a tap that meet one of `size` inputs, `hole` apart, along an axis."""
    few, many = sorted((places, taps), key=len)
    total = 0
    for one in few:
        at = one + many
        total += int(np.count_nonzero((at >= 0) & (at < size * hole) & (at % hole == 0)))
    return total


def _avals(variables: Any) -> list[Any]:
    return [variable.aval for variable in variables]
