"""Rules of `jet` and `checkify` for these primitives, the same as for the operations of `jax.lax`.

`jet` and `checkify` look up each operation in a table. `jet` refuses an unknown operation, and `checkify` skips it.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import jet
from jax.extend.core import Primitive

from jaxnn.kernels.conv import conv_dw_p, conv_dx_p, conv_p
from jaxnn.kernels.max_pool import give_p, max_pool_p, take_p
from jaxnn.kernels.platform import formulation
from jaxnn.kernels.step_products import product_dw_p, product_p
from jaxnn.kernels.sum_pool import spread_p, sum_pool_p

Series = Sequence[Sequence[jax.Array]]


def _as_lax(plain: Any, primals: Sequence[jax.Array], series: Series, **params: Any) -> Any:
    # Rules receive Taylor coefficients; `jet` multiplies them by factorials only at its ends.
    return jet.jet(functools.partial(plain, **params), primals, series, factorial_scaled=False)


def _piecewise_linear(primitive: Primitive, primals: Sequence[jax.Array], series: Series, **params: Any) -> Any:
    function = functools.partial(primitive.bind, **params)
    terms = [jax.jvp(function, primals, tangents)[1] for tangents in zip(*series, strict=True)]
    return function(*primals), terms


def _check_for_nan(*primitives: Primitive) -> None:
    try:
        from jax._src.checkify import error_checks, nan_error_check
    except ImportError:  # JAX has no public table of checks; without this one they skip these operations
        return
    for primitive in primitives:
        error_checks[primitive] = functools.partial(nan_error_check, primitive)


_BILINEAR = (conv_p, conv_dx_p, conv_dw_p, product_p, product_dw_p)
for _primitive in _BILINEAR:
    jet.jet_rules[_primitive] = functools.partial(_as_lax, formulation(_primitive))
for _primitive in (max_pool_p, take_p, give_p, sum_pool_p, spread_p):
    jet.jet_rules[_primitive] = functools.partial(_piecewise_linear, _primitive)
_check_for_nan(*_BILINEAR, sum_pool_p, spread_p)
