"""Convolution as three bilinear primitives, each the transpose of the others, so that every derivative is one of them.

    conv     (x, k) -> y     y[o]    = Σ_t  x[s o + d t - low] k[t]
    conv_dx  (g, k) -> dx    dx[i]   = Σ_t  g[o] k[t]ᵀ        where s o + d t - low = i
    conv_dw  (x, g) -> dk    dk[t]   = Σ_o  x[s o + d t - low]ᵀ g[o]

with stride s and dilation d. Arrays have the shape `(batch, *spatial, channels)`, kernels
`(*window, in / groups, out)`. Each can be differentiated again, in forward and reverse mode, and mapped over either
operand. Mapping over both, as in an ensemble of networks, adds a first axis to both operands and sets `members`.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from jaxnn.kernels import canonical, conv_cpu
from jaxnn.kernels.geometry import ConvGeometry, known, lax_conv
from jaxnn.kernels.platform import Formulation, bind, by_platform, explicit_mesh, inside_auto_axes, to_front, transpose
from jaxnn.kernels.settings import conv_precision, is_plain, plain


def conv(x: jax.Array, kernel: jax.Array, geometry: ConvGeometry) -> jax.Array:
    """Cross-correlates `x (batch, *spatial, in)` with `kernel (*window, in / groups, out)`."""
    return _bind(conv_p, x, kernel, geometry=geometry, members=False, differentiated=False)


def conv_dx(g: jax.Array, kernel: jax.Array, spatial: tuple[int, ...], geometry: ConvGeometry) -> jax.Array:
    """Transposes `conv` in its input of size `spatial`: maps `(batch, *out, out)` to `(batch, *spatial, in)`."""
    return _bind(conv_dx_p, g, kernel, spatial=spatial, geometry=geometry, members=False)


def _bind(primitive: Primitive, a: jax.Array, b: jax.Array, *, geometry: ConvGeometry, **params: Any) -> jax.Array:
    geometry = dataclasses.replace(geometry, precision=conv_precision(geometry.precision))
    return bind(primitive, a, b, geometry=geometry, **params)


# The programs of `jax.lax`. Transposing the convolution gives the same program as `jax.grad` of it.


def _lax_conv(
    x: jax.Array, kernel: jax.Array, *, geometry: ConvGeometry, members: bool, differentiated: bool
) -> jax.Array:
    if members:
        mapped = jax.vmap(lambda x, kernel: lax_conv(x, kernel, geometry))
        return inside_auto_axes(mapped, x, kernel, spec=jax.typeof(x).sharding.spec[:2])
    return lax_conv(x, kernel, geometry)


def _lax_conv_dx(
    g: jax.Array, kernel: jax.Array, *, spatial: tuple[int, ...], geometry: ConvGeometry, members: bool
) -> jax.Array:
    if members:
        one = partial(_lax_conv_dx, spatial=spatial, geometry=geometry, members=False)
        return inside_auto_axes(jax.vmap(one), g, kernel, spec=jax.typeof(g).sharding.spec[:2])
    # `jax.lax` transposes no stride where sizes are unknown.
    if is_plain() or not all(map(known, spatial)):
        return canonical.conv_dx_dilating(g, kernel, spatial, geometry)
    shape = (g.shape[0], *spatial, kernel.shape[-2] * geometry.groups)
    return transpose(lambda x: lax_conv(x, kernel, geometry), shape, g, (*jax.typeof(g).sharding.spec[:-1], None))


def _lax_conv_dx_on_cpu(g: jax.Array, kernel: jax.Array, *, spatial: Any, geometry: ConvGeometry, members: bool) -> Any:
    """`_lax_conv_dx` without negative padding, as inside `settings.plain`."""
    params: dict[str, Any] = {"spatial": spatial, "geometry": geometry, "members": members}
    if not canonical.crops(g.shape[1 + members : -1], kernel.shape[int(members) : -2], spatial, geometry):
        return _lax_conv_dx(g, kernel, **params)
    with plain():  # the remaining part of g need not divide over explicit axes
        spec = (*jax.typeof(g).sharding.spec[:-1], None)
        return inside_auto_axes(partial(_lax_conv_dx, **params), g, kernel, spec=spec)


def _lax_conv_dw(
    x: jax.Array, g: jax.Array, *, window: tuple[int, ...], geometry: ConvGeometry, members: bool
) -> jax.Array:
    in_space = any(any(jax.typeof(a).sharding.spec[1 + members : -1]) for a in (x, g))
    if explicit_mesh(g) is not None and (members or geometry.groups > 1 or in_space):
        products = partial(_conv_dw_by_products, window=window, geometry=geometry, members=members)
        return inside_auto_axes(products, x, g, spec=jax.typeof(g).sharding.spec[: int(members)])
    if members:
        return jax.vmap(lambda x, g: _lax_conv_dw(x, g, window=window, geometry=geometry, members=False))(x, g)
    if not all(map(known, x.shape[1:-1])):  # `jax.lax` transposes no stride where sizes are unknown
        return canonical.conv_dw(lax_conv, x, g, window, geometry, pads=False)
    shape = (*window, x.shape[-1] // geometry.groups, g.shape[-1])
    return transpose(lambda kernel: lax_conv(x, kernel, geometry), shape, g, (None,) * len(shape))


def _sharded_conv_dw(
    x: jax.Array, g: jax.Array, *, window: tuple[int, ...], geometry: ConvGeometry, members: bool
) -> jax.Array:
    """The gradient of a kernel in a program that XLA shards over several devices.

    If a convolution has groups (those of members have), or if a spatial axis is sharded, XLA sums the gradient of
    `jax.lax` over every axis of the mesh, even one that nothing is sharded over (seen with JAX 0.10.2 and 0.12). Matrix
    products are correct. Only explicit axes show whether a spatial axis is sharded.
    """
    if explicit_mesh(g) is not None or not (members or geometry.groups > 1):
        return _lax_conv_dw(x, g, window=window, geometry=geometry, members=members)
    return _conv_dw_by_products(x, g, window=window, geometry=geometry, members=members)


_conv_dw_by_products = partial(conv_cpu.conv_dw, sharded=True)


def _primitive(name: str, default: Formulation, cpu: Formulation, **elsewhere: Formulation) -> Primitive:
    return by_platform(name, default, partial(cpu, sharded=False), partial(cpu, sharded=True), **elsewhere)


conv_p = _primitive("conv", _lax_conv, conv_cpu.conv)
conv_dx_p = _primitive("conv_dx", _lax_conv_dx, conv_cpu.conv_dx, default_on_cpu=_lax_conv_dx_on_cpu)
conv_dw_p = _primitive("conv_dw", _lax_conv_dw, conv_cpu.conv_dw, sharded_elsewhere=_sharded_conv_dw)


# Derivatives. The operand that is transposed away has the spatial sizes or the window.


def _conv_x(ct: Any, x: Any, k: Any, *, geometry: ConvGeometry, members: bool, differentiated: bool) -> Any:
    return _bind(conv_dx_p, ct, k, spatial=x.aval.shape[1 + members : -1], geometry=geometry, members=members)


def _conv_k(ct: Any, x: Any, k: Any, *, geometry: ConvGeometry, members: bool, differentiated: bool) -> Any:
    return _bind(conv_dw_p, x, ct, window=k.aval.shape[members:-2], geometry=geometry, members=members)


def _dx_g(ct: Any, g: Any, k: Any, *, spatial: Any, geometry: ConvGeometry, members: bool) -> Any:
    return _bind(conv_p, ct, k, geometry=geometry, members=members, differentiated=False)


def _dx_k(ct: Any, g: Any, k: Any, *, spatial: Any, geometry: ConvGeometry, members: bool) -> Any:
    return _bind(conv_dw_p, ct, g, window=k.aval.shape[members:-2], geometry=geometry, members=members)


def _dw_x(ct: Any, x: Any, g: Any, *, window: Any, geometry: ConvGeometry, members: bool) -> Any:
    return _bind(conv_dx_p, g, ct, spatial=x.aval.shape[1 + members : -1], geometry=geometry, members=members)


def _dw_g(ct: Any, x: Any, g: Any, *, window: Any, geometry: ConvGeometry, members: bool) -> Any:
    return _bind(conv_p, x, ct, geometry=geometry, members=members, differentiated=False)


ad.defbilinear(conv_p, _conv_x, _conv_k)
ad.defbilinear(conv_dx_p, _dx_g, _dx_k)
ad.defbilinear(conv_dw_p, _dw_x, _dw_g)

_jvp_of_either = ad.primitive_jvps[conv_p]


def _conv_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, differentiated: bool, **params: Any) -> Any:
    return _jvp_of_either(primals, tangents, differentiated=True, **params)


ad.primitive_jvps[conv_p] = _conv_jvp


# Mapping. If only one operand is mapped, the mapped axis joins the batch, or channels that the other operand does not
# have, and the result is one ordinary convolution.

# The axis of the operand into which the mapped axis is merged, and the axis of the result to split; None: the batch.
_Join = tuple[int, int] | None


def _batch_rule(primitive: Primitive, joins: tuple[_Join, _Join]) -> None:
    def rule(operands: Sequence[Any], axes: Sequence[Any], *, members: bool, **params: Any) -> tuple[Any, int]:
        size = next(a.shape[axis] for a, axis in zip(operands, axes, strict=True) if axis is not None)
        if None in axes and not members:
            which = 0 if axes[1] is None else 1
            join = joins[which]
            if join is None or params["geometry"].groups == 1:
                both = list(operands)
                both[which], inner = _join(operands[which], axes[which], join)
                out = bind(primitive, *both, members=False, **params)
                return _split(out, size, inner, join)
        a, b = (to_front(operand, axis, size) for operand, axis in zip(operands, axes, strict=True))
        if not members:
            return bind(primitive, a, b, members=True, **params), 0
        inner = a.shape[1]  # a map of a map: both count members
        a, b = (v.reshape(size * inner, *v.shape[2:]) for v in (a, b))
        out = bind(primitive, a, b, members=True, **params)
        return out.reshape(size, inner, *out.shape[1:]), 0

    batching.primitive_batchers[primitive] = rule


def _join(array: jax.Array, axis: int, join: _Join) -> tuple[jax.Array, int]:
    """Merges the mapped axis into another one; also returns the size of that one."""
    target = 1 if join is None else array.ndim + join[0]
    array = jnp.moveaxis(array, axis, target - 1)
    shape = array.shape
    merged = array.reshape(*shape[: target - 1], shape[target - 1] * shape[target], *shape[target + 1 :])
    return merged, shape[target]


def _split(out: jax.Array, size: int, inner: int, join: _Join) -> tuple[jax.Array, int]:
    at = 0 if join is None else out.ndim + join[1]
    return out.reshape(*out.shape[:at], size, inner, *out.shape[at + 1 :]), at


_batch_rule(conv_p, (None, (-1, -1)))
_batch_rule(conv_dx_p, (None, (-2, -1)))
_batch_rule(conv_dw_p, ((-1, -2), (-1, -1)))
