"""Checks of derivatives by finite differences: forward and reverse mode, any order."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnn.testing.comparison import assert_within, largest
from jaxnn.testing.floating import FloatingFunction, as_arguments, cast_floating, computing_in, restrict_to_floating
from jaxnn.testing.oracle import name_of

Tree = Any
Mode = Literal["fwd", "rev"]


def assert_gradients(
    function: Callable[..., Tree],
    args: Sequence[Tree],
    *,
    modes: Sequence[Mode] = ("fwd", "rev"),
    order: int = 1,
    argnums: Sequence[int] | None = None,
    dtype: DTypeLike = jnp.float64,
    directions: int = 2,
    rtol: float | None = None,
    search_limit: int = 2000,
    seed: int = 0,
) -> None:
    r"""Asserts that the derivatives of a function with respect to all its floating inputs are right.

    Along random unit directions v, with a random cotangent w, the central difference

    .. math:: D = \frac{f(x + h v) - f(x - h v)}{2 h}, \qquad h = \varepsilon^{1/3}

    is compared with the Jacobian-vector product J v (forward mode, every element of the output), and wᵀ D is compared
    with (wᵀ J) v, formed from the gradient wᵀ J (reverse mode). The error of D is of the order ε^{2/3}: 4e-11 in
    float64. If they differ, the gradient is computed element by element to name the worst one.

    At a kink (ReLU at 0, a tie in max pooling) finite differences cannot tell which derivative is right. Choose inputs
    away from kinks, and compare the gradient at a kink with an oracle by `assert_close_to_oracle`.

    Args:
        function: Function of the arguments that returns a tree of arrays, whose floating leaves are differentiated.
        args: Positional arguments, pytrees of arrays of about unit size. Leaves that are not floating stay fixed.
        modes: "fwd" (`jax.jvp`), "rev" (`jax.vjp`) or both.
        order: Highest order to check. 2 also checks the derivatives of the gradient, in all modes, and so on.
        argnums: Positions of the arguments to differentiate. Default: all.
        dtype: Dtype of the computation. float64, the default, works without the global x64 flag. Use float32 for a
            device or kernel without float64; its tolerance of 0.5 % is coarse.
        directions: Number of random directions.
        rtol: Allowed difference relative to the largest value and derivative. Default: 200 ε^{2/3}.
        search_limit: Largest number of elements, chosen at random, to search for the worst one.
        seed: Seed of the directions.

    Raises:
        AssertionError: If a derivative is wrong. The message names the mode, the worst input element (argument, path,
            index), both values and the common factor, if there is one.
        ValueError: If a mode is unknown, the order is not positive, or the inputs or outputs contain no floats.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnn import testing
        >>> x = jnp.array([0.5, -1.0, 2.0])
        >>> testing.assert_gradients(lambda x: jnp.sin(x) * x, (x,), order=2)
        >>> @jax.custom_jvp
        ... def square(x):
        ...     return x * x
        >>> _ = square.defjvp(lambda primals, tangents: (primals[0] ** 2, 4 * primals[0] * tangents[0]))
        >>> testing.assert_gradients(square, (x,), modes=("rev",))
        Traceback (most recent call last):
        ...
        AssertionError: square, rev mode, order 1: 3 of 3 elements differ by more than the tolerance
          worst at args[0][2]: ...
          every element is 2 times what is expected
    """
    if order < 1 or not modes or any(mode not in ("fwd", "rev") for mode in modes):
        raise ValueError(f"order, modes: expected at least 1, and some of 'fwd', 'rev', got {order} and {modes}")
    with computing_in(dtype):
        given = cast_floating(as_arguments(args), dtype)
        restricted, leaves, paths = restrict_to_floating(function, given, argnums)
        smooth: FloatingFunction = jax.jit(restricted)
        inputs = _to_numpy(leaves)
        if not any(leaf.size for leaf in inputs):
            raise ValueError("args: expected floating-point numbers to differentiate, got none in the chosen arguments")
        rng = np.random.default_rng(seed)
        for level in range(1, order + 1):
            derivatives = _Derivatives(smooth, inputs, modes, rng, rtol)
            for mode in modes:
                what = f"{name_of(function)}, {mode} mode, order {level}"
                failure: AssertionError | None = None
                for _ in range(directions):
                    try:
                        derivatives.check_along_random_direction(mode, what)
                    except AssertionError as error:
                        failure = error
                if failure is not None:
                    # Slower, but it names the element. If it finds no error, the first message is raised.
                    derivatives.check_elements(mode, what, paths, search_limit)
                    raise failure
            if level < order:
                smooth = derivatives.gradient("rev" if "rev" in modes else "fwd")


class _Derivatives:
    """The derivatives of one function at one point: by finite differences, and by JAX.

    Everything except the function is computed in NumPy, which compiles nothing.
    """

    def __init__(
        self,
        function: FloatingFunction,
        inputs: list[np.ndarray],
        modes: Sequence[Mode],
        rng: np.random.Generator,
        rtol: float | None,
    ) -> None:
        self.inputs, self.rng = inputs, rng
        eps = float(jnp.finfo(inputs[0].dtype).eps)
        self.step = eps ** (1 / 3)
        self.rtol = 200 * eps ** (2 / 3) if rtol is None else rtol
        self.push = jax.jit(lambda x, tangent: jax.jvp(function, (x,), (tangent,))[1])
        self.pull = jax.jit(lambda x, cotangent: jax.vjp(function, x)[1](cotangent)[0])
        outputs = jax.eval_shape(function, inputs)
        if not outputs:
            raise ValueError("function: expected floating-point results to differentiate, got none")
        self.cotangent = self._random_unit(outputs)

        @jax.jit
        def compiled(x: list[jax.Array], tangent: list[jax.Array]) -> tuple[Any, Any, Any]:
            forward, reverse = "fwd" in modes, "rev" in modes
            return function(x), forward and self.push(x, tangent), reverse and self.pull(x, self.cotangent)

        # One program for everything, because compilation takes most of the time.
        self.compiled = compiled
        # The rounding error of f is divided by the step, so the error of the difference also scales with f.
        self.height = max(largest(leaf) for leaf in self.values(inputs))

    def values(self, x: list[np.ndarray]) -> list[np.ndarray]:
        return _to_numpy(self.compiled(x, self.inputs)[0])

    def difference(self, tangent: list[np.ndarray]) -> list[np.ndarray]:
        """Computes J v by the central difference."""
        ahead, behind = (
            self.values([x + np.asarray(h * v, x.dtype) for x, v in zip(self.inputs, tangent, strict=True)])
            for h in (self.step, -self.step)
        )
        return [(a - b).astype(np.float64) / (2 * self.step) for a, b in zip(ahead, behind, strict=True)]

    def check_along_random_direction(self, mode: Mode, what: str) -> None:
        direction = self._random_unit(self.inputs)
        expected = self.difference(direction)
        if mode == "fwd":
            got = self.compiled(self.inputs, direction)[1]
            scale = self.height + max(largest(leaf) for leaf in expected)
            assert_within(got, expected, lambda *_: self.rtol * scale, what=what)
        else:
            # The terms of the product with the cotangent may cancel, but their errors do not.
            scale = self.height + math.sqrt(_dot(expected, expected))
            slope = _dot(self.compiled(self.inputs, direction)[2], direction)
            assert_within(slope, _dot(self.cotangent, expected), lambda *_: self.rtol * scale, what=what)

    def check_elements(self, mode: Mode, what: str, paths: list[str], limit: int) -> None:
        """Compares the gradient of wᵀ f element by element, all of them or `limit` random ones."""
        places = [(leaf, i) for leaf, array in enumerate(self.inputs) for i in range(array.size)]
        if len(places) > limit:
            places = [places[i] for i in self.rng.choice(len(places), limit, replace=False)]
        got = [np.zeros(leaf.shape) for leaf in self.inputs]
        expected = [np.zeros(leaf.shape) for leaf in self.inputs]
        pulled = _to_numpy(self.pull(self.inputs, self.cotangent)) if mode == "rev" else None
        for leaf, i in places:
            basis = [np.zeros_like(array) for array in self.inputs]
            basis[leaf].flat[i] = 1
            expected[leaf].flat[i] = _dot(self.cotangent, self.difference(basis))
            if pulled is None:
                got[leaf].flat[i] = _dot(self.cotangent, self.push(self.inputs, basis))
            else:
                got[leaf].flat[i] = pulled[leaf].flat[i]
        scale = self.height + max(largest(leaf) for leaf in expected)
        assert_within(got, expected, lambda *_: self.rtol * scale, what=what, paths=paths)

    def gradient(self, mode: Mode) -> FloatingFunction:
        """Returns the function to differentiate next: the gradient of wᵀ f, or the slope along a direction."""
        if mode == "rev":
            return lambda x: self.pull(x, self.cotangent)
        direction = self._random_unit(self.inputs)
        return lambda x: self.push(x, direction)

    def _random_unit(self, like: list[np.ndarray]) -> list[np.ndarray]:
        """Draws a random direction of length one over all arrays together."""
        draws = [self.rng.normal(size=leaf.shape) for leaf in like]
        norm = math.sqrt(_dot(draws, draws)) or 1.0
        return [np.asarray(draw / norm, leaf.dtype) for draw, leaf in zip(draws, like, strict=True)]


def _to_numpy(leaves: Sequence[jax.Array]) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in leaves]


def _dot(a: Sequence[jax.typing.ArrayLike], b: Sequence[jax.typing.ArrayLike]) -> float:
    pairs = zip(a, b, strict=True)
    return float(sum(np.vdot(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs))
