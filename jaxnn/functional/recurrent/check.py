"""What the arguments of a recurrent layer must be; each message names the argument."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.functional import arguments
from jaxnn.functional.recurrent.params import GRUParams, LSTMParams, Params, RNNParams, State
from jaxnn.kernels.geometry import known


def params(p: Params, kind: type[Params]) -> None:
    """Raises where the parameters are of another layer or disagree among themselves."""
    if not isinstance(p, kind):
        raise ValueError(f"params must be {kind.__name__}, got {type(p).__name__}")
    for path, leaf in jax.tree.leaves_with_path(p):
        arguments.real(f"params{jax.tree_util.keystr(path)}", leaf)
        _same_dtype(f"params{jax.tree_util.keystr(path)}", leaf.dtype, "params.w_h", p.w_h.dtype)
    for name in ("w_x", "w_h"):
        if getattr(p, name).ndim != 2:
            raise ValueError(
                f"params.{name} must have 2 axes, (rows, gates * hidden), got shape "
                f"{getattr(p, name).shape}; for several sets of parameters use jax.vmap over the layer"
            )
    if 0 in p.w_h.shape:
        raise ValueError(f"params.w_h: expected a layer of at least 1 unit, got shape {p.w_h.shape}; give it units")
    if isinstance(p, LSTMParams):
        _lstm(p)
        return
    h = p.hidden
    width = h if isinstance(p, RNNParams) else 3 * h
    _shapes({"w_x": (p.w_x.shape[0], width), "w_h": (h, width), "b": (width,)}, p)
    if isinstance(p, GRUParams):
        _shapes({"b_hn": (h,)}, p)


def _lstm(p: LSTMParams) -> None:
    if p.projection is not None and p.projection.ndim != 2:
        raise ValueError(f"params.projection must be (hidden, output), got shape {p.projection.shape}")
    h, out, width = p.hidden, p.output, p.w_h.shape[1]
    if width not in (4 * h, 3 * h):
        raise ValueError(
            "params.w_h must have 4 * hidden columns (i, f, g, o), or 3 * hidden (f, g, o: coupled); "
            f"hidden is {h}, got shape {p.w_h.shape}"
        )
    _shapes({"w_x": (p.w_x.shape[0], width), "b": (width,)}, p)
    if p.peephole is not None:
        _shapes({"peephole": (p.gates - 1, h)}, p)
    if p.projection is not None:
        _shapes({"projection": (h, out)}, p)
    if p.norm is not None:
        for name, size in (("x", width), ("h", width), ("c", h), ("c_shift", h)):
            if getattr(p.norm, name).shape != (size,):
                raise ValueError(f"params.norm.{name} must have shape {(size,)}, got {getattr(p.norm, name).shape}")


def _shapes(expected: dict[str, tuple[int, ...]], p: Params) -> None:
    for name, shape in expected.items():
        if getattr(p, name).shape != shape:
            raise ValueError(
                f"params.{name} must have shape {shape} to fit params.w_h {p.w_h.shape}, got {getattr(p, name).shape}"
            )


def inputs(p: Params, x: jax.Array, axes: str) -> None:
    """Raises where `x` does not fit the weights; `axes` says how its shape reads."""
    arguments.real("x", x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating point, got {x.dtype}; embed or cast it first")
    least = 2 if "time" in axes else 1
    if x.ndim < least:
        raise ValueError(f"x must be {axes}, so have at least {least} axes, got shape {x.shape}")
    if x.shape[-1] != p.w_x.shape[0]:
        raise ValueError(
            f"x must be {axes} with the {p.w_x.shape[0]} features that params.w_x {p.w_x.shape} expects, "
            f"got {x.shape[-1]} features, shape {x.shape}"
        )
    _same_dtype("params", p.w_x.dtype, "x", x.dtype)


def state(p: Params, s: State, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> None:
    """Raises where a state is not what `p.zero_state(batch, dtype)` looks like."""
    expected = jax.eval_shape(lambda: p.zero_state(batch, dtype))
    if type(s) is not type(expected):
        raise ValueError(f"state must be {type(expected).__name__}, got {type(s).__name__}")
    for name, want in expected._asdict().items():
        got = getattr(s, name)
        arguments.real(f"state.{name}", got)
        if got.shape != want.shape:
            raise ValueError(
                f"state.{name} must have shape {want.shape}: the batch axes {batch} of x, then the "
                f"layer's own; got {got.shape}"
            )
        if got.dtype != want.dtype:
            raise ValueError(f"state.{name} must be {want.dtype} for x of {dtype}, got {got.dtype}; cast it")


def lengths(value: jax.typing.ArrayLike, batch: tuple[int, ...], time: int) -> jax.Array:
    """Lengths as int32 of shape `batch`; concrete ones are checked to lie in 0..time."""
    n = jnp.asarray(value)
    if not jnp.issubdtype(n.dtype, jnp.integer):
        raise ValueError(f"lengths must be integers, got {n.dtype}")
    if n.shape != batch:
        raise ValueError(f"lengths must have the batch axes of x, {batch}, got shape {n.shape}")
    if not isinstance(value, jax.core.Tracer):
        given = np.asarray(value)
        bad = given[(given < 0) | (given > (time if known(time) else np.inf))]
        if bad.size:
            raise ValueError(f"lengths must lie in 0..{time}, the number of time steps in x; got {bad[:5].tolist()}")
    return n.astype(jnp.int32)


def resets(value: jax.typing.ArrayLike, shape: tuple[int, ...], axes: str) -> jax.Array:
    """Resets as bool of the shape of `x` without its features."""
    r = jnp.asarray(value)
    if r.dtype != jnp.bool_:
        raise ValueError(f"resets must be bool, got {r.dtype}")
    if r.shape != shape:
        raise ValueError(f"resets must be {axes} as x is, shape {shape}, got {r.shape}")
    return r


def count(name: str, value: int | None) -> None:
    """Raises where an optional number of steps is not positive."""
    if value is not None and value < 1:
        raise ValueError(f"{name} must be at least 1 step, or None, got {value}")


def rate(name: str, value: Any) -> float | None:
    """A probability in [0, 1) as a float, or None where it is traced; raises for anything else."""
    if isinstance(value, jax.core.Tracer):
        return None
    number = np.asarray(value)
    if number.shape != () or not jnp.issubdtype(number.dtype, jnp.number) or np.iscomplexobj(number):
        raise ValueError(f"{name} must be a real number in [0, 1), got {value!r}")
    if not 0 <= float(number) < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")
    return float(number)


def _same_dtype(what: str, got: jax.typing.DTypeLike, other: str, want: jax.typing.DTypeLike) -> None:
    if got != want:
        raise ValueError(
            f"{what} must have the dtype of {other}, {want}, got {got}; cast one of them, for instance with "
            "jax.tree.map(lambda a: a.astype(x.dtype), params)"
        )
