"""The properties of a layer that `layer_checks` checks, each with the dtypes in which it is checked."""

import inspect
import pickle
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import jax
import numpy as np
from jax import export

from jaxnn import keys
from jaxnn.testing.comparison import assert_close, assert_within
from jaxnn.testing.counters import record_compilations
from jaxnn.testing.empty import check_empty, check_single
from jaxnn.testing.floating import cast_floating, computing_in, is_floating, restrict_to_floating, to_float64
from jaxnn.testing.gradients import assert_gradients
from jaxnn.testing.invariance import CheckName, assert_invariant, examples
from jaxnn.testing.layer import Args, Layer
from jaxnn.testing.oracle import assert_close_to_oracle
from jaxnn.testing.trees import total

Tree = Any
Check = Callable[[Layer, str], None]

HALVES = ("bfloat16", "float16")
PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms that programs are exported for."""
LONG = 300
"""Examples in the batch whose gradient shows in which dtype a layer sums: bfloat16 has no odd integers above 256."""


def _check_values(layer: Layer, dtype: str) -> None:
    if layer.oracle is not None:
        assert_close_to_oracle(
            layer.function,
            layer.oracle,
            layer.args(),
            dtype=dtype,
            reduction=layer.products,
            roundings=layer.roundings,
            sum_of_products=layer.sum_of_products,
        )


def _check_dtype(layer: Layer, dtype: str) -> None:
    assert_invariant(
        layer.function, layer.cast(np.float32), checks=["dtype"], dtypes=[dtype], output_dtype=layer.output_dtype
    )


def _invariant(check: CheckName) -> Check:
    def run(layer: Layer, dtype: str) -> None:
        assert_invariant(
            layer.function,
            layer.cast(dtype),
            checks=[check],
            batch_axes=layer.axes,
            reduction=layer.products,
            roundings=layer.roundings,
        )

    return run


def _check_gradients(layer: Layer, dtype: str) -> None:
    _skip_integers(layer)
    assert_gradients(layer.function, layer.args(), modes=layer.modes, order=layer.order, dtype=dtype)


def _check_half_gradients(layer: Layer, dtype: str) -> None:
    """Compares derivatives with those in float64 of the same values, all positive so that sums do not cancel."""
    _skip_integers(layer)
    rng = np.random.default_rng(1)
    args = examples(layer.args(), layer.axes, LONG)[1] if layer.batch else layer.args()
    rounded = to_float64(cast_floating(jax.tree.map(_positive, args), dtype))
    _, leaves, _ = restrict_to_floating(layer.function, rounded)
    results = [leaf for leaf in jax.tree.leaves(layer.shape(cast_floating(rounded, dtype))) if is_floating(leaf)]
    # Larger than 1 by less than a sum of 64 in bfloat16 can resolve.
    weights = [[rng.uniform(1.05, 1.2, leaf.shape) for leaf in each] for each in (leaves, results)]
    weights = to_float64(cast_floating(weights, dtype))

    def derivatives(dtype: Any) -> Tree:
        with computing_in(dtype):
            function, inputs, _ = restrict_to_floating(layer.function, cast_floating(rounded, dtype))

            def both(inputs: Tree, tangents: Tree, cotangents: Tree) -> Tree:
                y, pull = jax.vjp(function, inputs)
                gradient = pull([weight.astype(leaf.dtype) for weight, leaf in zip(cotangents, y, strict=True)])[0]
                pushed = jax.jvp(function, (inputs,), (tangents,))[1] if "fwd" in layer.modes else None
                return {"gradient": gradient, "tangent": pushed}

            return jax.block_until_ready(jax.jit(both)(inputs, *cast_floating(weights, dtype)))

    got, expected = derivatives(dtype), to_float64(derivatives(np.float64))
    what = f"{layer.name}, derivatives in {dtype} against float64"
    assert_close(got, expected, reduction=layer.products * LONG, roundings=layer.derivative_roundings, what=what)


def _check_static(layer: Layer, dtype: str) -> None:
    """Structures and options are hashable and survive a pickle."""
    args = layer.cast(dtype)
    structure: Any = jax.tree.structure(args)
    what = f"{layer.name}, arguments"
    try:
        same = jax.tree.structure(_pickled(jax.tree.map(_plain, args), what)) == structure
        hash(structure)
        what = layer.name
        hash(layer.function)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what}: expected static parts that are hashable and comparable, got {error}") from error
    if not same:
        raise AssertionError(f"{layer.name}, arguments: a pickle changes the structure of the tree")
    if inspect.isroutine(inspect.unwrap(layer.function)):
        return  # a function, jitted or not, has no options
    copy = _pickled(layer.function, layer.name)
    compares: Any = type(copy).__eq__
    if compares is not object.__eq__ and (copy != layer.function or hash(copy) != hash(layer.function)):
        raise AssertionError(f"{layer.name}: its pickle differs from it, or has another hash; compare by the options")
    assert_within(copy(*args), layer.function(*args), lambda *_: 0.0, what=f"{layer.name}, its pickle against itself")


def _check_eager(layer: Layer, dtype: str) -> None:
    """A second equal call without `jax.jit` compiles nothing, nor does a second gradient."""

    def call() -> Tree:
        return layer.function(*layer.cast(dtype))

    def gradient() -> Tree:
        function, inputs, _ = restrict_to_floating(layer.function, layer.cast(dtype))
        return jax.grad(lambda inputs: total(function(inputs)))(inputs)

    for what, run in [("call", call), ("gradient", gradient)][: 2 if layer.derivable else 1]:
        run()
        with record_compilations() as compiled:
            run()
        if compiled:
            raise AssertionError(
                f"{layer.name}: a second equal {what} without jit compiles {', '.join(sorted(set(compiled)))} again; "
                "the layer gives JAX a new function in every call: jit the layer, or define the function outside of it"
            )


def _check_export(layer: Layer, dtype: str) -> None:
    """One program, exported for CPU, CUDA and TPU and read again, works for batches of several sizes."""
    try:
        import flatbuffers  # noqa: F401
    except ModuleNotFoundError:
        raise SkipTest("flatbuffers: expected it to be installed, since jax.export writes with it") from None
    args, function = layer.cast(dtype), layer.function
    batches: list[Args] = [args]
    if layer.mapped:
        batches = [examples(args, layer.axes, n)[1] for n in (1, 3)]
        if not layer.batch:
            function = jax.vmap(function, in_axes=layer.axes)
    (b,) = export.symbolic_shape("b")

    def spec(one: jax.Array, other: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(
            [n if n == m else b for n, m in zip(one.shape, other.shape, strict=True)], one.dtype
        )

    specs = jax.tree.map(spec, batches[0], batches[-1])
    program = export.export(jax.jit(function), platforms=PLATFORMS)(*specs)
    call = export.deserialize(program.serialize()).call
    for given in batches:
        layer.close(call(*given), jax.jit(function)(*given), "exported against jit")


PROPERTIES: dict[str, tuple[Check, tuple[str, ...]]] = {
    "values": (_check_values, (*HALVES, "float32", "float64")),
    "dtype": (_check_dtype, (*HALVES, "float32", "float64")),
    "jit": (_invariant("jit"), ("float32",)),
    "vmap": (_invariant("vmap"), ("float32",)),
    "batch": (_invariant("batch"), ("float32",)),
    "remat": (_invariant("remat"), ("float32",)),
    "gradients": (_check_gradients, ("float64",)),
    "half_gradients": (_check_half_gradients, HALVES),
    "empty": (check_empty, ("float32",)),
    "single": (check_single, ("float32",)),
    "static": (_check_static, ("float32",)),
    "eager": (_check_eager, ("float32",)),
    "export": (_check_export, ("float32",)),
}
"""The check of each property and the dtypes that it runs in."""


def applicable(layer: Layer) -> list[str]:
    """The properties that apply to a layer."""
    left_out = {
        *(() if layer.oracle else ("values", "single")),
        *(() if layer.mapped else ("vmap",)),
        *(() if layer.batch else ("batch",)),
    }
    return [name for name in PROPERTIES if name not in left_out]


def _skip_integers(layer: Layer) -> None:
    if not layer.derivable:
        raise SkipTest(f"{layer.name}: expected floating-point arguments and results, got others: no derivatives")


def _pickled(value: Any, what: str) -> Any:
    try:
        return pickle.loads(pickle.dumps(value))
    except Exception as error:
        raise AssertionError(f"{what}: expected what pickle can copy, got {error}; hold no lambdas or files") from None


def _plain(leaf: jax.Array) -> np.ndarray:
    return np.asarray(keys.data_of(leaf))


def _positive(leaf: Any) -> Any:
    return np.abs(np.asarray(leaf)) if is_floating(leaf) else leaf
