"""Checks of layers on axes of size zero and one: correct values, or a clear error."""

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.testing.floating import restrict_to_floating, to_float64
from jaxnn.testing.invariance import map_axes
from jaxnn.testing.layer import Args, Layer
from jaxnn.testing.trees import total

Tree = Any


def check_single(layer: Layer, dtype: str) -> None:
    """Axes of size one: a layer gives what its oracle gives, or raises an error."""
    for args in _resized(layer, dtype, 1):
        _compare(layer, args)


def check_empty(layer: Layer, dtype: str) -> None:
    """Axes of size zero, and no examples: values, derivatives, remat, `jax.vmap`, `jax.lax.scan`."""
    for args in _resized(layer, dtype, 0):
        _compare(layer, args)
        function, inputs, _ = restrict_to_floating(layer.function, args)
        if inputs:
            what = f"shapes {_shapes(args)}"
            reverse, again, pushed = jax.jit(lambda inputs, f=function: _derivatives(f, inputs))(inputs)
            layer.close(again, reverse, f"{what}, gradient under jax.checkpoint")
            pulled = sum((np.vdot(a, b) for a, b in zip(reverse, inputs, strict=True)), np.float32(0))
            layer.close(pushed, np.asarray(pulled, np.float32), f"{what}, forward against reverse mode")
    if layer.mapped:
        _check_no_examples(layer, dtype)


def _compare(layer: Layer, args: Args) -> None:
    got = jax.jit(layer.function)(*args)
    if layer.oracle is None or not any(leaf.size for leaf in jax.tree.leaves(got)):
        return
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing
        try:
            expected = layer.oracle(*to_float64(args))
        except Exception as error:
            raise AssertionError(
                f"{layer.name}: gives a result for shapes {_shapes(args)}, where its oracle raises {error!r}; refuse "
                "these shapes by a ValueError"
            ) from error
    layer.close(got, expected, f"shapes {_shapes(args)}, against its oracle")


def _resized(layer: Layer, dtype: str, size: int) -> Iterator[Args]:
    """The arguments with axes of equal size cut to `size`, in every combination that the layer accepts.

    For the others it must raise a `ValueError` or a `TypeError`, from the shapes alone.
    """
    leaves, tree = jax.tree.flatten(layer.cast(dtype))
    taken: list[set[tuple[int, int]]] = []
    for whole in sorted({n for leaf in leaves for n in leaf.shape if n > 1}):
        choices = [[None, *(axis for axis, n in enumerate(leaf.shape) if n == whole)] for leaf in leaves]
        for axes in sorted(itertools.product(*choices), key=lambda axes: len(axes) - axes.count(None)):
            which = {(i, axis) for i, axis in enumerate(axes) if axis is not None}
            # A layer that accepts some empty arguments accepts the rest empty too. With size one, some may be
            # broadcast.
            if not which or (size == 0 and any(smaller <= which for smaller in taken)):
                continue
            cut = [
                leaf if axis is None else jax.lax.slice_in_dim(leaf, 0, size, axis=axis)
                for leaf, axis in zip(leaves, axes, strict=True)
            ]
            args: Args = jax.tree.unflatten(tree, cut)
            try:
                layer.shape(args)
            except (ValueError, TypeError):
                continue
            taken.append(which)
            yield args


def _derivatives(function: Callable[..., list[jax.Array]], inputs: list[jax.Array]) -> Tree:
    y, pull = jax.vjp(function, inputs)
    ones = [jnp.ones_like(leaf) for leaf in y]
    again = jax.vjp(jax.checkpoint(function), inputs)[1](ones)[0]
    return pull(ones)[0], again, total(jax.jvp(function, (inputs,), (inputs,))[1])


def _check_no_examples(layer: Layer, dtype: str) -> None:
    args = layer.cast(dtype)
    front = map_axes(lambda axis, _: None if axis is None else 0, layer.axes, args)
    empty = map_axes(_none, layer.axes, args)
    first = map_axes(_none, front, args)

    def run(*args: Tree) -> Tree:
        function, inputs, _ = restrict_to_floating(layer.function, args)
        y, pull = jax.vjp(function, inputs)
        return layer.function(*args), pull([jnp.ones_like(leaf) for leaf in y])[0]

    def looped(*mapped: Tree) -> Tree:
        def body(_: None, part: Tree) -> tuple[None, Tree]:
            return None, run(*map_axes(lambda axis, whole, one: whole if axis is None else one, front, args, part))

        return jax.lax.scan(body, None, map_axes(lambda axis, tree: None if axis is None else tree, front, mapped))[1]

    each = jax.eval_shape(run, *args)
    ways = [
        ("jax.vmap over no examples", jax.vmap(run, in_axes=layer.axes), empty, each),
        ("jax.lax.scan over no examples", looped, first, each),
        ("an empty batch", layer.function, empty, each[0]),
    ]
    for what, function, given, one in ways if layer.batch else ways[:2]:
        for got, due in zip(jax.tree.leaves(jax.jit(function)(*given)), jax.tree.leaves(one), strict=True):
            if got.shape != (0, *due.shape):
                raise AssertionError(f"{layer.name}, {what}: shape is {got.shape}, expected {(0, *due.shape)}")


def _none(axis: int | None, tree: Tree) -> Tree:
    """A tree with a new axis of size zero."""
    if axis is None:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.slice_in_dim(jnp.expand_dims(leaf, axis), 0, 0, axis=axis), tree)


def _shapes(tree: Tree) -> str:
    return ", ".join(str(leaf.shape) for leaf in jax.tree.leaves(tree))
