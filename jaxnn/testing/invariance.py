"""Checks that no transformation changes a function: jit, vmap, remat, batching, dtype."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnn.keys import is_key
from jaxnn.testing.comparison import assert_same, assert_within
from jaxnn.testing.floating import as_arguments, as_array, is_floating, restrict_to_floating
from jaxnn.testing.names import check_names
from jaxnn.testing.oracle import name_of
from jaxnn.testing.trees import stacked

Tree = Any
CheckName = Literal["jit", "vmap", "batch", "remat", "dtype"]

DTYPES = (jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64)


def assert_invariant(
    function: Callable[..., Tree],
    args: Sequence[Tree],
    *,
    checks: Sequence[CheckName] = ("jit", "vmap", "remat", "dtype"),
    batch_axes: Any = 0,
    dtypes: Sequence[DTypeLike] = DTYPES,
    output_dtype: Callable[[Any], Tree] = lambda dtype: dtype,
    reduction: int | None = None,
    roundings: int = 2,
) -> None:
    """Asserts that a function gives the same results under every transformation.

    - `"jit"`: two plain calls agree bit for bit, so no state leaks from call to call. The compiled call agrees with the
      plain one, also for other values of the same shapes, which must not trace again. No tracer leaks.
    - `"vmap"`: `jax.vmap` over `batch_axes` equals a Python loop, and so does the gradient.
    - `"batch"`: the function itself, called with one and two leading batch axes, equals the loop. This is for functions
      that take any number of batch axes; the batch axis of each argument is 0 or None.
    - `"remat"`: `jax.checkpoint` changes neither values nor gradients.
    - `"dtype"`: results have the dtype of the inputs, bfloat16, float16, float32 or float64, and no intermediate result
      is promoted (traced under strict dtype promotion, with x64 enabled and without).

    The other values are the elements of each array in another order, so that properties of the set of values (lengths,
    labels, no ties) still hold. Checks compare within the tolerance of `tolerance`, since fusion reorders sums.

    Args:
        function: Function of the arguments that returns a tree of arrays.
        args: Positional arguments for one example, pytrees of arrays.
        checks: Names of the checks.
        batch_axes: As `in_axes` of `jax.vmap`: the batch axis of each argument, None for a shared argument.
        dtypes: Floating dtypes to check.
        output_dtype: Function from the dtype of the inputs to that of the outputs: one dtype, or a prefix of the output
            tree. Default: the same dtype. Use it, for example, for a cell state that stays float32.
        reduction: Number of products in each sum. Default: the size of the largest argument.
        roundings: See `tolerance`.

    Raises:
        AssertionError: If a check fails; the message names the check and the worst element.
        ValueError: If a check is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import testing
        >>> x, w = jnp.arange(3.0), jnp.ones((3, 2)) / 3
        >>> testing.assert_invariant(jnp.matmul, (x, w), batch_axes=(0, None))
        >>> testing.assert_invariant(lambda x: x * jnp.float32(2), (x,), checks=["dtype"])
        Traceback (most recent call last):
        ...
        AssertionError: <lambda>, dtype: bfloat16 is promoted in an intermediate result...
    """
    check_names("checks", checks, _CHECKS)
    given: tuple[Tree, ...] = jax.tree.map(as_array, as_arguments(args))
    if reduction is None:
        reduction = max([1, *(leaf.size for leaf in jax.tree.leaves(given))])
    if not isinstance(batch_axes, list | tuple):
        batch_axes = (batch_axes,) * len(given)

    def close(got: Tree, expected: Tree, what: str) -> None:
        assert_same(got, expected, reduction, roundings, f"{name_of(function)}, {what}")

    for check in checks:
        if check == "dtype":
            _check_dtype(function, given, dtypes, output_dtype)
        else:
            with jax.default_matmul_precision("highest"):
                _CHECKS[check](function, given, tuple(batch_axes), close)


Close = Callable[[Tree, Tree, str], None]


def _check_jit(function: Callable[..., Tree], args: tuple[Tree, ...], _: tuple[Any, ...], close: Close) -> None:
    others = _shuffle(args, 1)
    first, other, again = function(*args), function(*others), function(*args)
    assert_within(
        again,
        first,
        lambda *_: 0.0,
        what=f"{name_of(function)}, jit: state leaks from one plain call into the next",
    )
    traces = 0

    def counted(*args: Tree) -> Tree:
        nonlocal traces
        traces += 1
        return function(*args)

    compiled = jax.jit(counted)
    try:
        with jax.checking_leaks():
            got_first, got_other = compiled(*args), compiled(*others)
    except Exception as error:
        if "Leaked" not in str(error):
            raise
        raise AssertionError(f"{name_of(function)}, jit: a tracer escapes\n{error}") from error
    close(got_first, first, "jit against no jit")
    close(got_other, other, "jit against no jit, for other values")
    if traces != 1:
        raise AssertionError(f"{name_of(function)}, jit: traced {traces} times for two calls of the same shapes")


def _check_vmap(function: Callable[..., Tree], args: tuple[Tree, ...], axes: tuple[Any, ...], close: Close) -> None:
    single, together = examples(args, axes, 3)
    for each in _with_gradient(function, args):
        compiled = jax.jit(each)
        expected = stacked([compiled(*example) for example in single])
        got = jax.jit(jax.vmap(each, in_axes=axes))(*together)
        for kind, ours, theirs in zip(("values", "gradients"), got, expected, strict=True):
            close(ours, theirs, f"vmap against a loop, {kind}")


def _check_batch(function: Callable[..., Tree], args: tuple[Tree, ...], axes: tuple[Any, ...], close: Close) -> None:
    if any(axis not in (0, None) for axis in jax.tree.leaves(axes)):
        raise ValueError(f"batch_axes: expected 0 or None for the check 'batch', got {axes}")
    single, together = examples(args, axes, 4)
    compiled = jax.jit(function)
    expected = stacked([compiled(*example) for example in single])
    close(compiled(*together), expected, "one batch axis against a loop")

    def fold(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(2, 2, *leaf.shape[1:])

    two_axes = map_axes(lambda axis, tree: tree if axis is None else jax.tree.map(fold, tree), axes, together)
    close(compiled(*two_axes), jax.tree.map(fold, expected), "two batch axes against a loop")


def _check_remat(function: Callable[..., Tree], args: tuple[Tree, ...], _: tuple[Any, ...], close: Close) -> None:
    both = zip(*(_with_gradient(each, args) for each in (jax.checkpoint(function), function)), strict=True)
    for remat, plain in both:
        results = jax.jit(remat)(*args), jax.jit(plain)(*args)
        for kind, ours, theirs in zip(("values", "gradients"), *results, strict=True):
            close(ours, theirs, f"remat against plain, {kind}")


def _check_dtype(
    function: Callable[..., Tree],
    args: tuple[Tree, ...],
    dtypes: Sequence[DTypeLike],
    output_dtype: Callable[[Any], Tree],
) -> None:
    for dtype in [jnp.dtype(dtype) for dtype in dtypes]:
        for x64 in (False, True):
            if dtype == jnp.float64 and not x64:
                continue
            where = f"{dtype.name} with x64" if x64 and dtype != jnp.float64 else dtype.name
            with jax.enable_x64(x64), jax.numpy_dtype_promotion("strict"):
                try:
                    result = jax.eval_shape(function, *_shapes(args, dtype))
                except (jax.dtypes.TypePromotionError, TypeError) as error:
                    raise AssertionError(
                        f"{name_of(function)}, dtype: {where} is promoted in an intermediate result\n{error}"
                    ) from error
            expected = jax.tree.broadcast(output_dtype(dtype), result)
            for (path, leaf), due in zip(jax.tree.leaves_with_path(result), jax.tree.leaves(expected), strict=True):
                if is_floating(leaf) and leaf.dtype != jnp.dtype(due):
                    place = f" at {jax.tree_util.keystr(path)}" if path else ""
                    raise AssertionError(
                        f"{name_of(function)}, dtype: {where} comes out as {leaf.dtype.name}{place}, "
                        f"expected {jnp.dtype(due).name}"
                    )


_CHECKS: dict[str, Callable[..., None]] = {
    "jit": _check_jit,
    "vmap": _check_vmap,
    "batch": _check_batch,
    "remat": _check_remat,
    "dtype": _check_dtype,
}


def _with_gradient(function: Callable[..., Tree], args: tuple[Tree, ...]) -> list[Callable[..., tuple[Tree, Any]]]:
    """The function, and the gradient of a random projection of its result, as one function to compile.

    Without floating leaves the gradient is None. If the gradient cannot be traced, a function of the values alone comes
    first.
    """

    def values(*args: Tree) -> tuple[Tree, None]:
        return function(*args), None

    outputs = [leaf for leaf in jax.tree.leaves(jax.eval_shape(function, *args)) if is_floating(leaf)]
    if not outputs or not any(is_floating(leaf) for leaf in jax.tree.leaves(args)):
        return [values]
    rng = np.random.default_rng(0)
    weights = [as_array(rng.normal(size=leaf.shape).astype(leaf.dtype)) for leaf in outputs]

    def both(*args: Tree) -> tuple[Tree, list[jax.Array]]:
        restricted, inputs, _ = restrict_to_floating(function, args)
        return function(*args), jax.vjp(restricted, inputs)[1](weights)[0]

    try:
        jax.eval_shape(both, *args)
    except Exception:
        return [values, both]
    return [both]


def _shapes(tree: Tree, dtype: DTypeLike) -> Tree:
    """Returns the shapes and dtypes of a tree with its floating leaves in `dtype`."""

    def shape(leaf: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, dtype if is_floating(leaf) else leaf.dtype)

    return jax.tree.map(shape, tree)


def _shuffle(tree: Tree, seed: int) -> Tree:
    """Makes other values of the same kind: the elements of each array in another order; random keys stay."""
    rng = np.random.default_rng(seed)

    def shuffle(leaf: jax.Array) -> jax.Array:
        if is_key(leaf):
            return leaf
        # In NumPy, as everything except the function, so that nothing compiles.
        return as_array(rng.permuted(np.asarray(leaf).reshape(-1)).reshape(leaf.shape))

    return jax.tree.map(shuffle, tree)


def map_axes(function: Callable[..., Tree], axes: tuple[Any, ...], *trees: tuple[Tree, ...]) -> tuple[Tree, ...]:
    """Calls `function(axis, *subtrees)` for each axis or None in `axes`, a prefix of the trees."""
    return jax.tree.map(function, axes, *trees, is_leaf=lambda axis: axis is None)


def examples(
    args: tuple[Tree, ...], axes: tuple[Any, ...], count: int
) -> tuple[list[tuple[Tree, ...]], tuple[Tree, ...]]:
    """Makes examples that differ in the batched arguments: one by one, and stacked along the batch axes."""
    shuffled = [args, *(_shuffle(args, seed) for seed in range(1, count))]
    single = [
        map_axes(lambda axis, plain, other: plain if axis is None else other, axes, args, others) for others in shuffled
    ]

    def stack(axis: int | None, *subtrees: Tree) -> Tree:
        return subtrees[0] if axis is None else stacked(subtrees, axis)

    return single, map_axes(stack, axes, *shuffled)
