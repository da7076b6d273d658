"""The layer that `layer_checks` checks: its function, its arguments and its tolerance."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxnn.testing.comparison import assert_same
from jaxnn.testing.floating import cast_floating, is_floating
from jaxnn.testing.gradients import Mode
from jaxnn.testing.oracle import name_of

Tree = Any
Args = tuple[Tree, ...]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer under test. `layer_checks` explains its arguments, which are the attributes here."""

    function: Callable[..., Tree]
    make_args: Callable[[np.random.Generator], Args]
    oracle: Callable[..., Tree] | None
    batch_axes: Any
    batch: bool
    reduction: int | None
    roundings: int
    derivative_roundings: int
    sum_of_products: bool
    modes: Sequence[Mode]
    order: int
    output_dtype: Callable[[Any], Tree]
    seed: int

    @property
    def name(self) -> str:
        """The name of the function, for messages."""
        return name_of(self.function)

    @property
    def mapped(self) -> bool:
        """Whether any argument has a batch axis."""
        return any(axis is not None for axis in jax.tree.leaves(self.batch_axes))

    @property
    def axes(self) -> tuple[Any, ...]:
        """The batch axes of each argument."""
        given = self.batch_axes
        return tuple(given) if isinstance(given, list | tuple) else (given,) * len(self.args())

    @property
    def derivable(self) -> bool:
        """Whether both arguments and results contain floating-point numbers, so that there are derivatives."""
        args = self.cast(np.float32)
        return all(any(map(is_floating, jax.tree.leaves(tree))) for tree in (args, self.shape(args)))

    @property
    def products(self) -> int:
        """Number of products in each sum: the size of the largest argument by default."""
        sizes = (np.size(leaf) for leaf in jax.tree.leaves(self.args()) if is_floating(leaf))
        return self.reduction or max([1, *sizes])

    def args(self) -> Args:
        """The arguments of one example, float64 where they are floating."""
        args = self.make_args(np.random.default_rng(self.seed))
        if not isinstance(args, tuple):
            raise ValueError(
                f"args: expected a tuple of arguments for {self.name}, got {type(args).__name__}; return (x,)."
            )
        return args

    def cast(self, dtype: Any) -> Args:
        """The arguments of one example as JAX arrays, in `dtype` where they are floating."""
        return cast_floating(self.args(), dtype)

    def close(self, got: Tree, expected: Tree, what: str) -> None:
        """Asserts that two results agree."""
        assert_same(got, expected, self.products, self.roundings, f"{self.name}, {what}")

    def shape(self, args: Args) -> Tree:
        """Shapes and dtypes of the result."""
        return jax.eval_shape(self.function, *args)
