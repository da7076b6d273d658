"""One decorator that makes a test for each property of a layer and each dtype."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxnn.testing.gradients import Mode
from jaxnn.testing.layer import Layer
from jaxnn.testing.layer_properties import PROPERTIES, applicable
from jaxnn.testing.names import check_names

Tree = Any
MakeArgs = Callable[[np.random.Generator], tuple[Tree, ...]]
Test = Callable[[Callable[[], None]], None]


def layer_checks(
    function: Callable[..., Tree],
    *,
    oracle: Callable[..., Tree] | None = None,
    batch_axes: Any = 0,
    batch: bool = False,
    reduction: int | None = None,
    roundings: int = 2,
    derivative_roundings: int = 8,
    sum_of_products: bool = False,
    modes: Sequence[Mode] = ("fwd", "rev"),
    order: int = 1,
    output_dtype: Callable[[Any], Tree] = lambda dtype: dtype,
    without: Sequence[str] = (),
    seed: int = 0,
) -> Callable[[MakeArgs], Test]:
    """Makes one test for each property of a layer and each dtype; decorates the function that makes the arguments.

    The package installs a pytest plugin, which gives each test an id, `test_dense[values-bfloat16]`,
    `test_dense[jit-float32]` and so on. So `pytest -k half_gradients` runs one property of all layers. Without pytest,
    call the values of the dictionary `test_dense.layer_checks`, whose keys are the ids.

    - `values`: results agree with the oracle, in bfloat16, float16, float32 and float64 (`assert_close_to_oracle`).
    - `dtype`: results have the dtype of the inputs, and no intermediate result is promoted (`assert_invariant`).
    - `jit`, `vmap`, `batch`, `remat`: the transformation changes nothing, and two calls trace once
      (`assert_invariant`).
    - `gradients`: derivatives agree with finite differences, in float64 (`assert_gradients`).
    - `half_gradients`: derivatives in bfloat16 and float16 agree with those in float64 for the same values, up to
      roundings of the narrow dtype. The values are made positive. With `batch`, there are 300 examples, because a sum
      of ones in bfloat16 stagnates at 256.
    - `empty`: with axes of size zero the layer gives what its oracle gives, and its derivatives agree with each other
      and with `jax.checkpoint`; or it raises a `ValueError` or `TypeError`. A batch without examples gives an axis of
      size zero under `jax.vmap`, `jax.lax.scan` and `batch`.
    - `single`: with axes of size one the layer gives what its oracle gives, or raises a `ValueError` or `TypeError`.
    - `static`: the structure of the arguments and the layer are hashable, and their pickled copies are equal and
      compute the same.
    - `eager`: a second equal call without `jax.jit` compiles nothing, nor does a second gradient.
    - `export`: one program of `jax.export` for CPU, CUDA and TPU works for every batch size. Skipped without
      flatbuffers.

    Args:
        function: The layer: a function of pytrees of arrays that returns one.
        oracle: The same function in NumPy and float64. Without one, `values` and `single` are left out.
        batch_axes: As `in_axes` of `jax.vmap`: the batch axis of each argument, None for shared parameters.
        batch: Whether the layer itself takes any number of leading batch axes where `batch_axes` has 0.
        reduction: Number of products in each sum, for the tolerance; see `tolerance`. Default: the size of the largest
            argument.
        roundings: See `tolerance`.
        derivative_roundings: How often a value is rounded to the dtype on the way to a derivative.
        sum_of_products: As in `assert_close_to_oracle`.
        modes: Modes of differentiation, "fwd" and "rev".
        order: Highest order of the derivatives.
        output_dtype: As in `assert_invariant`.
        without: Properties to leave out.
        seed: Seed of the generator that the decorated function receives.

    Returns:
        The decorator. It takes a function from a `numpy.random.Generator` to the arguments of one example, a tuple of
        pytrees of arrays, float64 where they are floating; use it at the top level of a file.

    Raises:
        ValueError: If a name in `without` is not a property.

    Example:
        >>> import jax, numpy as np
        >>> from jaxnn import testing
        >>> @testing.layer_checks(jax.nn.relu, oracle=lambda x: np.maximum(x, 0), batch=True)
        ... def test_relu(rng):
        ...     return (rng.normal(size=4),)
        >>> list(test_relu.layer_checks)[:4]
        ['values-bfloat16', 'values-float16', 'values-float32', 'values-float64']
        >>> test_relu.layer_checks["jit-float32"]()
        >>> @testing.layer_checks(lambda x: x.astype("float32"), batch=True)
        ... def test_wide(rng):
        ...     return (rng.normal(size=4),)
        >>> test_wide.layer_checks["dtype-bfloat16"]()
        Traceback (most recent call last):
        ...
        AssertionError: <lambda>, dtype: bfloat16 comes out as float32, expected bfloat16
    """
    check_names("without", without, PROPERTIES)

    def decorate(make_args: MakeArgs) -> Test:
        layer = Layer(
            function=function,
            make_args=make_args,
            oracle=oracle,
            batch_axes=batch_axes,
            batch=batch,
            reduction=reduction,
            roundings=roundings,
            derivative_roundings=derivative_roundings,
            sum_of_products=sum_of_products,
            modes=modes,
            order=order,
            output_dtype=output_dtype,
            seed=seed,
        )

        def test(layer_check: Callable[[], None]) -> None:
            __tracebackhide__ = True  # pytest shows the check instead
            layer_check()

        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(test, name, getattr(make_args, name))
        vars(test)["layer_checks"] = {
            f"{name}-{dtype}": partial(PROPERTIES[name][0], layer, dtype)
            for name in applicable(layer)
            if name not in without
            for dtype in PROPERTIES[name][1]
        }
        return test

    return decorate
