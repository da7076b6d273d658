"""Every layer, listed once: the suites of ``test_cases.py`` run over this table.

A case holds what differs from layer to layer; a suite holds a property that all layers share. Who adds a layer or an
option adds a case here and gets every suite.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import functional as F
from jaxnn.functional import arguments
from jaxnn.kernels.recurrence import dot, rows
from tests import oracles, oracles_recurrent

Tree = Any
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One layer with one choice of options.

    Attributes:
        name: The test's id.
        function: The layer; options are bound, what remains are positional arguments, pytrees of arrays.
        oracle: The same in NumPy float64.
        make_args: From a random generator and the shape of the batch to the arguments, float64 where they are floating.
        batch_axes: As ``in_axes`` of `jax.vmap`: 0 for arguments that carry the batch axes in front, None for shared
            ones.
        reduction: Number of products in each sum.
        roundings: Roundings to the dtype on the way to the result.
        sum_of_products: Whether the result is a sum of products with non-negative factors, so that the oracle on
            absolute values gives the scale of the error.
        modes: Modes of differentiation.
        output_dtype: From the dtype of the inputs to that of the outputs.
        suites: Suites to run: "values" for values, dtypes and batch shapes only, "all" for everything.
        make_long_args: From a random generator to arguments with hundreds of terms in the sums of the derivatives. By
            default a large batch makes them.
        derivative_roundings: Roundings to the dtype on the way to a derivative.
    """

    name: str
    function: Callable[..., Tree]
    oracle: Callable[..., Tree]
    make_args: Callable[[np.random.Generator, Shape], tuple[Tree, ...]]
    batch_axes: tuple[Any, ...]
    reduction: int
    roundings: int = 2
    sum_of_products: bool = False
    modes: tuple[str, ...] = ("fwd", "rev")
    output_dtype: Callable[[Any], Tree] = lambda dtype: dtype
    suites: str = "all"
    make_long_args: Callable[[np.random.Generator], tuple[Tree, ...]] | None = None
    derivative_roundings: int = 4

    def long_args(self, rng: np.random.Generator) -> tuple[Tree, ...]:
        return self.make_args(rng, (400,)) if self.make_long_args is None else self.make_long_args(rng)

    def args(self, seed: int = 0, batch: Shape = (2,)) -> tuple[Tree, ...]:
        return self.make_args(np.random.default_rng(seed), batch)

    def __str__(self) -> str:
        return self.name


def distinct(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Values in random order that lie apart and away from zero: neither ties nor kinks, and exact in bfloat16 too."""
    size = int(np.prod(shape))
    values = (np.arange(size) + 1) * rng.choice([-1.0, 1.0], size) / 64
    return rng.permutation(values).reshape(shape)


# Sums of products


def conv_case(
    name: str,
    size: Shape,
    window: Shape,
    channels: tuple[int, int] = (2, 3),
    *,
    bias: bool = True,
    transpose: bool = False,
    suites: str = "all",
    long_batch: int = 400,
    **options: Any,
) -> Case:
    inputs, outputs = channels
    groups = options.get("groups", 1)
    kernel = (inputs, outputs // groups) if transpose else (inputs // groups, outputs)

    def make_args(rng: np.random.Generator, batch: Shape) -> tuple[np.ndarray, ...]:
        args = rng.normal(size=(*batch, *size, inputs)), rng.normal(size=(*window, *kernel))
        return (*args, rng.normal(size=outputs)) if bias else args

    layer = "conv_transpose" if transpose else "conv"
    return Case(
        f"{layer} {name}",
        partial(getattr(F, layer), **options),
        partial(getattr(oracles, layer), **options),
        make_args,
        batch_axes=(0, None, None) if bias else (0, None),
        reduction=int(np.prod(window)) * inputs // groups,
        sum_of_products=True,
        suites=suites,
        make_long_args=lambda rng: make_args(rng, (long_batch,)),
    )


CONV = [
    conv_case("2d", (5, 6), (3, 3)),
    conv_case("1d without bias", (7,), (4,), bias=False),
    conv_case("3d valid", (3, 4, 3), (2, 3, 2), padding="VALID"),
    conv_case("strided", (6, 5), (3, 2), stride=2),
    conv_case("strided by axis, low", (7, 6), (3, 4), stride=(3, 2), padding="SAME_LOWER", suites="values"),
    conv_case("dilated, padded in pairs", (6, 5), (2, 3), dilation=(2, 1), padding=((2, 0), (1, 3))),
    conv_case("padded by a number", (4, 5), (3, 3), padding=2, suites="values"),
    conv_case("causal", (7,), (3,), padding="CAUSAL", dilation=2),
    conv_case("groups", (5, 4), (3, 3), (4, 6), groups=2),
    conv_case("depthwise", (5, 4), (3, 3), (3, 6), groups=3, stride=2),
    conv_case("reflect", (5, 6), (3, 3), pad_mode="reflect"),
    conv_case("replicate", (5, 6), (4, 3), pad_mode="replicate", padding=((3, 1), (0, 2))),
    conv_case("circular", (5, 6), (3, 3), pad_mode="circular", stride=2),
    conv_case("pointwise", (3, 2), (1, 1), suites="values"),
    conv_case("single element", (1, 1), (1, 1), (1, 1), suites="values"),
    conv_case("window beyond the input", (2, 2), (5, 4), suites="values"),
]

CONV_TRANSPOSE = [
    conv_case("2d", (3, 4), (3, 3), transpose=True),
    conv_case("strided", (3, 4), (3, 2), transpose=True, stride=2),
    conv_case(
        "strided by axis, low", (3, 2), (3, 4), transpose=True, stride=(2, 3), padding="SAME_LOWER", suites="values"
    ),
    conv_case("stride beyond the window", (3, 2), (2, 2), transpose=True, stride=3),
    conv_case("1d valid", (4,), (3,), transpose=True, stride=2, padding="VALID", bias=False),
    conv_case("3d", (2, 2, 3), (2, 3, 2), transpose=True, stride=(1, 2, 1), padding=1),
    conv_case("causal", (5,), (3,), transpose=True, padding="CAUSAL", stride=2, suites="values"),
    conv_case("causal, dilated", (5,), (3,), transpose=True, padding="CAUSAL", dilation=2, suites="values"),
    conv_case(
        "pairs and output padding",
        (3, 4),
        (3, 3),
        transpose=True,
        stride=2,
        padding=((1, 0), (0, 2)),
        output_padding=1,
    ),
    conv_case("dilated", (4, 3), (2, 3), transpose=True, stride=2, dilation=(3, 2), padding="SAME"),
    conv_case("groups", (3, 3), (3, 2), (4, 6), transpose=True, groups=2, stride=2),
    conv_case("single element", (1, 1), (1, 1), (1, 1), transpose=True, suites="values"),
]

DENSE = [
    Case(
        "dense",
        F.dense,
        oracles.dense,
        lambda rng, batch: (rng.normal(size=(*batch, 5)), rng.normal(size=(5, 3)), rng.normal(size=3)),
        batch_axes=(0, None, None),
        reduction=5,
        sum_of_products=True,
    ),
    Case(
        "dense without bias, single element",
        F.dense,
        oracles.dense,
        lambda rng, batch: (rng.normal(size=(*batch, 1)), rng.normal(size=(1, 1))),
        batch_axes=(0, None),
        reduction=1,
        sum_of_products=True,
        suites="values",
    ),
]


# Pooling


def pool_case(
    layer: str,
    name: str,
    size: Shape,
    *options: Any,
    channels: int = 2,
    suites: str = "all",
    make_long_args: Any = None,
    **named_options: Any,
) -> Case:
    def bound(function: Callable[..., Any]) -> Callable[..., Any]:
        def pool(x: Any) -> Any:
            return function(x, *options, **named_options)

        pool.__name__ = layer
        return pool

    return Case(
        f"{layer} {name}",
        bound(getattr(F, layer)),
        bound(getattr(oracles, layer)),
        lambda rng, batch: (distinct(rng, (*batch, *size, channels)),),
        batch_axes=(0,),
        reduction=1 if "max" in layer else int(np.prod(size)),
        # The p-norm: powers, a sum and a root, each rounded.
        roundings=8 if layer == "lp_pool" else 2,
        sum_of_products=layer in ("avg_pool", "global_avg_pool", "adaptive_avg_pool"),
        suites=suites,
        make_long_args=make_long_args,
    )


# (name, size, window, options) that every pool with a window understands
WINDOWS: list[tuple[str, Shape, Shape, dict[str, Any]]] = [
    ("2d", (5, 6), (2, 2), {}),
    ("overlapping", (5, 6), (3, 2), {"stride": (2, 1), "padding": "SAME"}),
    ("ceil mode and padding", (6, 5), (3, 2), {"stride": 2, "padding": ((1, 1), (0, 1)), "ceil_mode": True}),
    ("dilated", (7, 6), (3, 2), {"stride": 2, "dilation": (2, 3), "padding": 1}),
]
MORE_WINDOWS: list[tuple[str, Shape, Shape, dict[str, Any]]] = [
    ("1d", (7,), (3,), {"stride": 2, "padding": "SAME_LOWER"}),
    ("1d causal", (6,), (3,), {"stride": 1, "padding": "CAUSAL"}),
    ("3d", (4, 3, 4), (2, 2, 3), {"stride": (2, 1, 1)}),
    ("last window in the padding", (4, 4), (2, 2), {"stride": 3, "padding": 1, "ceil_mode": True}),
    ("ceil mode, dilated", (8, 7), (3, 3), {"stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True}),
    ("single element", (1, 1), (1, 1), {}),
]

POOLS = [
    *(
        pool_case(layer, name, size, window, **options)
        for layer in ("max_pool", "avg_pool")
        for name, size, window, options in WINDOWS
    ),
    *(
        pool_case(layer, name, size, window, suites="values", **options)
        for layer in ("max_pool", "avg_pool")
        for name, size, window, options in MORE_WINDOWS
    ),
    *(
        pool_case(
            "avg_pool", f"{name}, padding counted", size, window, count_include_pad=True, suites="values", **options
        )
        for name, size, window, options in WINDOWS[1:]
    ),
    pool_case("lp_pool", *WINDOWS[2][:3], **WINDOWS[2][3]),
    *(
        pool_case("lp_pool", name, size, window, suites="values", **options)
        for name, size, window, options in [WINDOWS[0], WINDOWS[1], WINDOWS[3], *MORE_WINDOWS]
    ),
    pool_case("lp_pool", "p = 1", (5, 6), (2, 3), p=1, suites="values"),
    pool_case("lp_pool", "p = 3", (5, 6), (2, 3), p=3),
    pool_case("global_max_pool", "2d", (4, 3)),
    pool_case("global_max_pool", "1d", (4,), spatial=1, suites="values"),
    pool_case("global_avg_pool", "2d", (4, 3)),
    pool_case("global_avg_pool", "3d", (2, 4, 3), spatial=3, suites="values"),
    pool_case("adaptive_avg_pool", "uneven", (7, 5), (3, 2)),
    pool_case("adaptive_avg_pool", "even", (6, 4), (3, 2), suites="values"),
    pool_case("adaptive_avg_pool", "larger than the input", (3, 2), (5, 2), suites="values"),
    pool_case("adaptive_max_pool", "uneven", (7, 5), (3, 2)),
    pool_case("adaptive_max_pool", "1d", (7,), (3,), suites="values"),
]


def tie_case(name: str, size: Shape, window: Shape, options: dict[str, Any]) -> Case:
    """The gradient of max pooling where values are equal: no finite difference tells which of them gets it."""

    def gradient(x: Any, cotangent: Any) -> Any:
        return jax.vjp(lambda x: F.max_pool(x, window, **options), x)[1](cotangent)[0]

    def make_args(rng: np.random.Generator, batch: Shape) -> tuple[Tree, ...]:
        x = rng.integers(0, 3, size=(*batch, *size, 2)).astype(np.float64)
        return x, rng.normal(size=oracles.max_pool(x, window, **options).shape)

    taps = int(np.prod(window))
    return Case(
        f"max_pool {name}, gradient where values are equal",
        gradient,
        partial(oracles.max_pool_gradient, window=window, **options),
        make_args,
        batch_axes=(0, 0),
        # One element may be the maximum of as many windows as a window has taps; they are added in the dtype itself.
        reduction=taps,
        roundings=taps,
        suites="values",
    )


TIES = [tie_case(*window) for window in [*WINDOWS, *MORE_WINDOWS]]


# Recurrent layers. Derivatives, resets, streaming and the driver's options have tests of their own beside the layers;
# here are values, dtypes and batch shapes, over few steps: every case costs the compilation of a scan.

TIME, FEATURES, HIDDEN = 3, 2, 3
LONG = 400


def weights(rng: np.random.Generator, init: Callable[..., Tree], features: int = FEATURES, **options: Any) -> Tree:
    """Random parameters, other ones in every gate; biases, peepholes and gains too."""
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), features, HIDDEN, **options))
    return jax.tree.map(lambda leaf: 0.6 * rng.normal(size=leaf.shape), shapes)


def by_oracle(step: Callable[..., Any], params: Tree, x: np.ndarray, lengths: Any = None, **options: Any) -> Any:
    """The oracle's outputs and final state, from a zero state."""
    state = params.zero_state(x.shape[:-2], np.float32)
    zero = tuple(np.zeros(leaf.shape, np.result_type(leaf.dtype, np.float64)) for leaf in state)
    return oracles_recurrent.batch(step, params, x, zero, lengths=lengths, **options)


def recurrent_case(
    name: str,
    init: dict[str, Any] | None = None,
    *,
    lengths: bool = False,
    backward: bool = False,
    **options: Any,
) -> Case:
    layer = name.split()[0]
    function, step = getattr(F, layer), getattr(oracles_recurrent, f"{layer}_step")
    output = getattr(F, f"{layer}_cell")().output
    formula = {key: value for key, value in options.items() if key != "algorithm"}

    def run(params: Tree, x: Any, *lengths: Any) -> Any:
        y, state = function(params, x, lengths=lengths[0] if lengths else None, reverse=backward, **options)
        return y, output(params, state)

    def oracle(params: Tree, x: np.ndarray, *lengths: Any) -> Any:
        y, state = by_oracle(step, params, x, *lengths, reverse=backward, **formula)
        return y, oracles_recurrent.output(step, params, state)

    def make_args(rng: np.random.Generator, batch: Shape, time: int = TIME) -> tuple[Tree, ...]:
        args = weights(rng, getattr(F, f"init_{layer}"), **(init or {})), rng.normal(size=(*batch, time, FEATURES))
        return (*args, rng.integers(0, time + 1, batch).astype(np.int32)) if lengths else args

    run.__name__ = layer
    return recurrent(name, run, oracle, make_args, batch_axes=(None, 0, 0) if lengths else (None, 0))


def recurrent(
    name: str, function: Callable[..., Tree], oracle: Callable[..., Tree], make_args: Any, batch_axes: tuple[Any, ...]
) -> Case:
    return Case(
        name,
        function,
        oracle,
        make_args,
        batch_axes=batch_axes,
        reduction=4 * HIDDEN,
        roundings=8 * TIME,  # each step rounds products, sums and activations
        suites="values",
        # Sums over steps. Positive weights of this size would drive the gates to where they have no slope.
        make_long_args=lambda rng: _quieter(*make_args(rng, (2,), LONG)),
        derivative_roundings=24,
    )


def _quieter(params: Tree, *rest: Any) -> tuple[Tree, ...]:
    return jax.tree.map(lambda leaf: leaf / 4, params), *rest


def conv_lstm_case(name: str, size: Shape, window: Shape, **init: Any) -> Case:
    def conv_lstm(params: Tree, x: Any) -> Any:
        y, state = F.conv_lstm(params, x)
        return y, state.h

    def oracle(params: Tree, x: np.ndarray) -> Any:
        zero = tuple(np.zeros((*x.shape[: -2 - len(size)], *size, HIDDEN)) for _ in range(2))
        step = oracles_recurrent.conv_lstm_step
        y, state = oracles_recurrent.batch(step, params, x, zero, feature_axes=len(size) + 1)
        return y, state[0]

    def make_args(rng: np.random.Generator, batch: Shape, time: int = TIME) -> tuple[Tree, ...]:
        params = weights(rng, F.init_conv_lstm, window=window, **init)
        return params, rng.normal(size=(*batch, time, *size, FEATURES))

    return recurrent(f"conv_lstm {name}", conv_lstm, oracle, make_args, batch_axes=(None, 0))


def both_directions(params: Tree, x: Any) -> Any:
    y, states = F.bidirectional(F.gru, *params, x)
    return y, states.forward.h, states.backward.h


def both_directions_oracle(params: Tree, x: np.ndarray) -> Any:
    step = oracles_recurrent.gru_step
    (y, (forward,)), (y_back, (backward,)) = (
        by_oracle(step, p, x, reverse=reverse) for p, reverse in zip(params, (False, True), strict=True)
    )
    return np.concatenate([y, y_back], axis=-1), forward, backward


def two_layers(params: Tree, x: Any) -> Any:
    y, states = F.stack(F.rnn, params, x)
    return y, states[0].h, states[1].h


def two_layers_oracle(params: Tree, x: np.ndarray) -> Any:
    y, (lower,) = by_oracle(oracles_recurrent.rnn_step, params[0], x)
    y, (upper,) = by_oracle(oracles_recurrent.rnn_step, params[1], y)
    return y, lower, upper


def elementwise_zero(params: Tree, batch: Shape, dtype: Any) -> Any:
    return jnp.zeros((*batch, HIDDEN), dtype)


def elementwise_step(params: Tree, h: Any, x: Any) -> Any:
    """A simple recurrent layer whose units do not see each other."""
    w, u, b = params
    of_x = dot(x, w)
    return jnp.tanh(of_x + rows(b, of_x) + rows(u, of_x) * h.astype(of_x.dtype)).astype(x.dtype)


def elementwise_check(params: Tree, x: Any, axes: str) -> None:
    for name, leaf in zip("xwub", (x, *params), strict=True):
        arguments.real(name, leaf)
    if [leaf.shape for leaf in params] != [(FEATURES, HIDDEN), (HIDDEN,), (HIDDEN,)] or x.shape[-1] != FEATURES:
        raise ValueError(
            f"x: expected {axes}, with {FEATURES} features, got shape {x.shape}; or the weights do not fit"
        )


ELEMENTWISE = F.Cell(elementwise_zero, elementwise_step, check=elementwise_check, jacobian="diagonal")


def elementwise_oracle(params: Tree, x: np.ndarray) -> Any:
    w, u, b = params
    h, y = np.zeros((*x.shape[:-2], HIDDEN)), np.zeros((*x.shape[:-1], HIDDEN))
    for t in range(x.shape[-2]):
        y[..., t, :] = h = np.tanh(x[..., t, :] @ w + b + u * h)
    return y, h


def elementwise_args(rng: np.random.Generator, batch: Shape, time: int = TIME) -> tuple[Tree, ...]:
    shapes = (FEATURES, HIDDEN), (HIDDEN,), (HIDDEN,)
    return tuple(0.6 * rng.normal(size=shape) for shape in shapes), rng.normal(size=(*batch, time, FEATURES))


def pair_of(init: Callable[..., Tree], second: int) -> Callable[[np.random.Generator, Shape], tuple[Tree, ...]]:
    """Arguments for two layers, the second one on ``second`` features."""
    return lambda rng, batch, time=TIME: (
        (weights(rng, init), weights(rng, init, second)),
        rng.normal(size=(*batch, time, FEATURES)),
    )


RECURRENT = [
    recurrent_case("rnn"),
    recurrent_case("gru reset after"),
    recurrent_case("gru reset before, lengths, backward", lengths=True, backward=True, reset_after=False),
    recurrent_case("lstm"),
    recurrent_case("lstm lengths", lengths=True),
    recurrent_case("lstm peephole", {"peephole": True}),
    recurrent_case("lstm projection", {"projection": 2}),
    recurrent_case("lstm coupled", {"coupled": True}),
    recurrent_case("lstm layer norm", {"layer_norm": True}),
    recurrent_case("mingru"),
    recurrent_case("mingru log-space, associative, lengths", lengths=True, log_space=True, algorithm="associative"),
    recurrent_case("minlstm log-space", log_space=True),
    recurrent_case("lru lengths, backward", lengths=True, backward=True),
    recurrent_case("lru associative, projected", {"output": 4}, algorithm="associative"),
    recurrent_case("gru heads", {"heads": 3}),
    recurrent_case("lstm heads", {"heads": 3}),
    recurrent_case("slstm"),
    recurrent_case("slstm heads, exponential forget gate, lengths", {"heads": 3}, lengths=True, forget_gate="exp"),
    conv_lstm_case("1d", (4,), (3,)),
    conv_lstm_case("2d, peephole", (2, 3), (2, 3), peephole=(2, 3)),
    recurrent("bidirectional", both_directions, both_directions_oracle, pair_of(F.init_gru, FEATURES), (None, 0)),
    recurrent("stack", two_layers, two_layers_oracle, pair_of(F.init_rnn, HIDDEN), (None, 0)),
    recurrent(
        "newton",
        partial(F.recurrent, ELEMENTWISE, algorithm="newton"),
        elementwise_oracle,
        elementwise_args,
        (None, 0),
    ),
]

ATTENTION = [
    Case(
        "attention",
        F.attention,
        oracles_recurrent.attention,
        lambda rng, batch: tuple(rng.normal(size=(*batch, *shape)) for shape in ((2, 3), (4, 3), (4, 2))),
        batch_axes=(0, 0, 0),
        reduction=4,
        roundings=8,  # scores, exponentials, their sum and the quotient
        make_long_args=lambda rng: tuple(rng.normal(size=(2, *shape)) for shape in ((300, 3), (300, 3), (300, 2))),
        derivative_roundings=8,
    )
]


def peak(rng: np.random.Generator) -> tuple[np.ndarray]:
    """A picture that every window's maximum is the middle of."""
    at = np.abs(np.arange(-11, 12))
    return (np.broadcast_to(1 / (1 + at[:, None] + at)[None, ..., None], (2, 23, 23, 1)),)


# What has hundreds of terms in the sums of its derivatives whatever the batch; Python loops are too slow for it.
LONG_SUMS = [
    conv_case("replicate, padded by hundreds", (7,), (4,), pad_mode="replicate", padding=((300, 0),)),
    conv_case("many taps", (20, 20), (12, 12), long_batch=4),
    *(
        pool_case(layer, f"{window} x {window}", (2 * window - 1,) * 2, (window,) * 2, stride=1, make_long_args=peak)
        for layer in ("max_pool", "avg_pool", "lp_pool")
        for window in (11, 12)
    ),
    recurrent_case("rnn scanned", algorithm="scan"),
    recurrent_case("gru scanned", algorithm="scan"),
    recurrent_case("lstm scanned", algorithm="scan"),
    recurrent_case("lstm fused, in blocks", algorithm="fused", remat=1),
    pool_case("adaptive_avg_pool", "far larger than the input", (2, 3), (16, 16)),
    pool_case("adaptive_max_pool", "far larger than the input", (2, 3), (16, 16)),
]

CASES = [*CONV, *CONV_TRANSPOSE, *DENSE, *POOLS, *TIES, *RECURRENT, *ATTENTION]
