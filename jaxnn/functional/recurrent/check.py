"""Checks of a recurrent layer's arguments; each message names the argument."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional import arguments
from jaxnn.functional.bound import Static
from jaxnn.functional.programs import concrete
from jaxnn.functional.recurrent.cell import Cell
from jaxnn.functional.recurrent.task import Task
from jaxnn.shapes import text


def array(x: Any) -> jax.Array:
    """Returns `x` as an array; raises if it is a collection of arrays, which JAX would stack along a new batch axis."""
    if isinstance(x, Mapping | list | tuple) and not all(isinstance(n, int | float) for n in jax.tree.leaves(x)):
        advice = "concatenate several inputs along their features"
        if hasattr(x, "_fields"):
            advice = "the order is (params, x, state) for a layer, (params, state, x) for a step"
        elif isinstance(x, list):
            advice = "np.stack sequences, padded to one time, and give their lengths=; " + advice
        raise ValueError(f"x: expected one array, got {type(x).__name__}; {advice}.")
    return arguments.array("x", x)


def arrays(name: str, tree: Any) -> Any:
    """Returns parameters or a state with Python numbers converted to arrays, as `jax.jit` converts them."""

    def one(path: Any, leaf: Any) -> jax.Array:
        try:
            return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
        except jax.errors.JaxRuntimeError:
            raise
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: expected an array, got {type(leaf).__name__}; bind options "
                "to the functions of the cell with functools.partial."
            ) from None

    return jax.tree.map_with_path(one, tree)


def inputs(
    cell: Cell, params: Any, x: jax.Array, *, time: int, time_major: bool = False
) -> tuple[Any, tuple[Any, ...]]:
    """Returns the number of steps (if there is time) and the batch axes of `x`; raises if `x` does not fit the cell."""
    if not isinstance(cell, Cell):
        raise ValueError(
            f"cell: expected a Cell, got {type(cell).__name__}; make one from zero_state and step, or use lstm_cell()."
        )
    names = "features" if cell.feature_axes == 1 else f"{cell.feature_axes} feature axes"
    batch_axes = "time, *batch" if time_major and time else "*batch, time" if time else "*batch"
    axes = f"({batch_axes}, {names})"
    if cell.check is not None:
        cell.check(params, x, axes)
    least = cell.feature_axes + time
    if x.ndim < least:
        raise ValueError(f"x: expected {axes}, at least {least} axes, got shape {x.shape}")
    leading = x.shape[: x.ndim - cell.feature_axes]
    if not time:
        return None, leading
    return (leading[0], leading[1:]) if time_major else (leading[-1], leading[:-1])


def zero_state(cell: Cell, params: Any, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> Any:
    """Returns the cell's zero state; raises if a part of it is not an array with the batch axes."""
    zeros = cell.zero_state(params, batch, dtype)
    for path, leaf in jax.tree.leaves_with_path(zeros):
        if not hasattr(leaf, "dtype") or leaf.shape[: len(batch)] != batch:
            raise ValueError(
                f"cell.zero_state: expected arrays (*batch, ...) with the batch axes {batch}, got {text(leaf)}"
                + (f" at {jax.tree_util.keystr(path)}" if path else "")
                + "; make them with jnp.zeros((*batch, ...), dtype)."
            )
    return zeros


def state(given: Any, expected: Any, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> None:
    """Raises unless a state has the structure, shapes and dtypes of the cell's `zero_state`."""
    if not _alike(given, expected):
        fields = ", ".join(getattr(expected, "_fields", ()))
        advice = f"; write {type(expected).__name__}({fields})." if fields and type(given) is not type(expected) else ""
        advice = "; start with zero_state." if given is None else advice
        raise ValueError("state: expected {}, got {}".format(*_kinds(expected, given)) + advice)
    for (path, want), got in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(given), strict=True):
        name = f"state{jax.tree_util.keystr(path)}"
        if not jnp.issubdtype(want.dtype, jnp.complexfloating):
            arguments.real(name, got)
        if got.shape != want.shape:
            raise ValueError(
                f"{name}: expected shape {want.shape}, the batch axes {batch} of x before those of the layer, "
                f"got {got.shape}"
            )
        if got.dtype != want.dtype:
            raise ValueError(f"{name}: expected {want.dtype} for x of {dtype}, got {got.dtype}; cast it.")


def step(cell: Cell, task: Task) -> None:
    """Raises unless the cell's step returns a state of the kind that it takes, and an output for each sequence."""
    x = jax.eval_shape(lambda xs: xs[0], task.xs) if task.xs.shape[0] else jnp.zeros(task.xs.shape[1:], task.xs.dtype)
    new = jax.eval_shape(cell.step, task.params, task.state, x)
    if not _alike(new, task.state):
        kinds = _kinds(task.state, new)
        advice = "return the new state alone; Cell(output=) makes another output than its first array"
        raise ValueError("cell.step: expected it to return {}, as zero_state does, got {}; {}.".format(*kinds, advice))
    for (path, got), want in zip(jax.tree.leaves_with_path(new), jax.tree.leaves(task.state), strict=True):
        if (got.shape, got.dtype) != (want.shape, want.dtype):
            raise ValueError(
                f"cell.step: expected it to return state{jax.tree_util.keystr(path)} as {want.dtype} {want.shape}, as "
                f"zero_state does for x of {task.xs.dtype}, got {got.dtype} {got.shape}; cast it or reshape it."
            )
    batch = x.shape[: x.ndim - cell.feature_axes]
    for path, y in jax.tree.leaves_with_path(jax.eval_shape(cell.output, task.params, new)):
        if y.shape[: len(batch)] != batch:
            raise ValueError(
                f"cell.output: expected arrays (*batch, ...) with the batch axes {batch}, got shape {y.shape}"
                + (f" at {jax.tree_util.keystr(path)}" if path else "")
                + "; let axes count from the end, as axis=-1."
            )


def _alike(a: Any, b: Any) -> bool:
    shapes: list[Any] = [jax.tree.structure(tree) for tree in (a, b)]
    return bool(shapes[0] == shapes[1])


def _kinds(*trees: Any) -> list[str]:
    """The types of two trees of different structure; of one type, their contents."""
    names = ["an array" if jax.tree_util.all_leaves([tree]) else type(tree).__name__ for tree in trees]
    return names if names[0] != names[1] else list(map(text, trees))


def kind_of(p: Any, kind: type[Any], main: str = "w_h") -> None:
    """Raises if the parameters are of another layer, or not all are real and of the dtype of `main`."""
    if not isinstance(p, kind):
        fields = ", ".join(getattr(kind, "_fields", ()))
        raise ValueError(f"params: expected {kind.__name__}, got {type(p).__name__}; its fields are {fields}.")
    _part(p, main)
    for path, leaf in jax.tree.leaves_with_path(p):
        arguments.real(f"params{jax.tree_util.keystr(path)}", leaf)
    for path, leaf in jax.tree.leaves_with_path(p):
        _same_dtype(f"params{jax.tree_util.keystr(path)}", leaf.dtype, f"params.{main}", getattr(p, main).dtype)


def weights(p: Any, kind: type[Any], matrices: tuple[str, ...] = ("w_x", "w_h"), *, heads: bool = False) -> None:
    """Raises if the parameters are of another layer, not all real and of one dtype, or `matrices` have other axes.

    The other matrices must fit the last one. With `heads` the last one may be a stack of matrices.
    """
    main = matrices[-1]
    kind_of(p, kind, main)
    for name in matrices:
        if _part(p, name).ndim != 2 and not (heads and name == main and _part(p, main).ndim == 3):
            raise ValueError(
                f"params.{name}: expected 2 axes, (rows, columns), got shape "
                f"{getattr(p, name).shape}; for several sets of parameters use jax.vmap over the layer."
            )
    shape = getattr(p, main).shape
    if 0 in (shape[1:] if len(matrices) == 1 else shape):  # the rows of the only matrix are inputs, maybe none
        raise ValueError(f"params.{main}: expected a layer of at least 1 unit, got shape {shape}; give it units.")


def _part(p: Any, name: str) -> Any:
    """Returns an array of the parameters; raises if None or a list, which is a tree of numbers, is in its place."""
    part = getattr(p, name)
    if not hasattr(part, "dtype"):
        raise ValueError(f"params.{name}: expected an array, got {type(part).__name__}; make one with jnp.asarray.")
    return part


def shapes(expected: dict[str, tuple[int, ...]], p: Any, main: str = "w_h") -> None:
    """Raises if a parameter does not fit the parameter `main`."""
    for name, shape in expected.items():
        if _part(p, name).shape != shape:
            raise ValueError(
                f"params.{name}: expected shape {shape} to fit params.{main} {getattr(p, main).shape}, "
                f"got {getattr(p, name).shape}"
            )


def gated(p: Any, x: jax.Array, axes: str, *, kind: Static, gates: int, heads: bool = False) -> None:
    """`Cell.check` of a cell of equal gates, whose parameters are `w_x` and `b`, and maybe `w_h` and `b_hn`."""
    fields = kind.value._fields
    matrices = tuple(name for name in ("w_x", "w_h") if name in fields)
    weights(p, kind.value, matrices, heads=heads)
    width = gates * p.hidden
    expected = {"w_x": (p.w_x.shape[0], width), "b": (width,), "b_hn": (p.hidden,)}
    if "w_h" in fields:
        expected["w_h"] = (*p.w_h.shape[:-1], gates * p.w_h.shape[-2])
    shapes({name: shape for name, shape in expected.items() if name in fields}, p, matrices[-1])
    features(p, x, axes)


def features(p: Any, x: jax.Array, axes: str, name: str = "w_x") -> None:
    """Raises if `x` does not fit the weights `name (*window, features, columns)`; `axes` names the axes of `x`."""
    arguments.real("x", x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x: expected floating point, got {x.dtype}; embed or cast it first.")
    w = getattr(p, name)
    least = w.ndim - 1 + ("time" in axes)
    advice = "; its feature axis is missing: x[..., None]." if w.shape[-2] == 1 else ""
    if x.ndim < least:
        raise ValueError(f"x: expected {axes}, at least {least} axes, got shape {x.shape}{advice}")
    if x.shape[-1] != w.shape[-2]:
        raise ValueError(
            f"x: expected {axes} with the {w.shape[-2]} features of params.{name} {w.shape}, "
            f"got {x.shape[-1]} features, shape {x.shape}{advice}"
        )
    _same_dtype("params", w.dtype, "x", x.dtype)


def lengths(value: jax.typing.ArrayLike, batch: tuple[int, ...], time: int) -> jax.Array:
    """Lengths as int32 of shape `batch`; concrete ones are checked to lie in 0..time."""
    if getattr(value, "dtype", None) == jnp.bool_:
        raise ValueError(
            "lengths: expected integers, got bool; to choose single steps give mask=, bool (*batch, time)."
        )
    return arguments.lengths(value, batch, time, batch_of="x", steps="time steps in x")


def steps(name: str, value: jax.typing.ArrayLike, shape: tuple[int, ...], time_major: bool) -> jax.Array:
    """Returns one bool per step, of the shape of `x` without its features."""
    r = arguments.array(name, value)
    axes = "(time, *batch)" if time_major else "(*batch, time)"
    if r.dtype != jnp.bool_:
        raise ValueError(f"{name}: expected bool, got {r.dtype}; write {name} != 0.")
    if r.shape != shape:
        raise ValueError(f"{name}: expected {axes} as in x, shape {shape}, got {r.shape}")
    return r


def count(name: str, value: int | None) -> int | None:
    """Reads an optional number of steps, at least one."""
    return None if value is None else arguments.integer(name, value, 1)


def init(key: Any, **sizes_of: int) -> None:
    """Raises unless the key of an initialiser is a random key and every size is a positive integer."""
    arguments.random_key(key)
    sizes(**sizes_of)


def sizes(**named: int) -> None:
    """Raises unless every size is a positive integer."""
    for name, size in named.items():
        arguments.integer(name, size, 1)


def rate(name: str, value: Any) -> bool:
    """Whether a dropout rate may exceed zero (a traced one may); raises unless it is a number in [0, 1)."""
    arguments.number(name, value, "a real number in [0, 1)", lambda r: 0 <= r < 1, "0.0 drops nothing.")
    seen = concrete(value)
    return seen is None or float(seen) > 0


def _same_dtype(what: str, got: jax.typing.DTypeLike, other: str, want: jax.typing.DTypeLike) -> None:
    if got != want:
        raise ValueError(
            f"{what}: expected the dtype of {other}, {want}, got {got}; cast one of them, for example with "
            "jax.tree.map(lambda a: a.astype(x.dtype), params)."
        )
