"""Bugs of the kinds that layers have, each planted in a right layer, and the check of `layer_checks` that catches it.

`python -m tests.testing.planted` plants them all and prints the list.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnn import functional as F
from jaxnn import testing
from tests import oracles
from tests.testing import layers


class Right(NamedTuple):
    """A layer that passes every check."""

    function: Callable[..., Any]
    make_args: Callable[[np.random.Generator], tuple[Any, ...]]
    options: dict[str, Any]


class Bug(NamedTuple):
    """A layer that one check must refuse, with a message that a pattern finds, and the layer that it should be."""

    name: str
    check: str
    right: Right
    says: str
    function: Callable[..., Any]
    options: dict[str, Any]


BUGS: list[Bug] = []


def planted(name: str, check: str, right: Right, says: str = ".", **options: Any) -> Callable[[Any], Any]:
    """Lists the decorated function as a bug; `options` replace those of the right layer."""

    def add(function: Any) -> Any:
        BUGS.append(Bug(name, check, right, says, function, options))
        return function

    return add


def check_of(layer: Bug | Right, check: str, seed: int = 0) -> Callable[[], None]:
    """The check of that name, to be called."""
    right = layer.right if isinstance(layer, Bug) else layer
    options = {**right.options, **(layer.options if isinstance(layer, Bug) else {})}
    make_args = options.pop("make_args", right.make_args)
    return testing.layer_checks(layer.function, seed=seed, **options)(make_args).layer_checks[check]


def wide(x: jax.Array) -> jax.Array:
    """In float32 at least."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


# Right layers. Those of the library have tests of their own; these are as plain as a user's.


def normalized(x, gain):
    x32 = wide(x)
    centred = x32 - x32.mean(-1, keepdims=True)
    y = centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + jnp.asarray(1e-5, x32.dtype))
    return (y * jnp.broadcast_to(wide(gain), y.shape)).astype(x.dtype)


def normalized_oracle(x, gain):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain


def softmax(x):
    exponentials = jnp.exp(wide(x) - lax.stop_gradient(wide(x).max(-1, keepdims=True, initial=-jnp.inf)))
    return (exponentials / exponentials.sum(-1, keepdims=True)).astype(x.dtype)


def softmax_oracle(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    return exponentials / exponentials.sum(-1, keepdims=True)


def leak(carry, x):
    state, decay = carry
    state = decay * state + x
    return (state, decay), state


@jax.jit
def leaky(decay, x):
    """``(features,)``, ``(time, features)`` -> ``(time, features)``."""
    if decay.shape != x.shape[1:]:
        raise ValueError(f"decay: expected {x.shape[1:]}, got {decay.shape}")
    return lax.scan(leak, (jnp.zeros_like(decay), decay), x)[1]


def leaky_oracle(decay, x):
    y = np.zeros_like(x)
    for t in range(len(x)):
        y[t] = x[t] + (decay * y[t - 1] if t else 0)
    return y


def masked_mean(x, length):
    within = jnp.arange(x.shape[0], dtype=length.dtype)[:, None] < length
    total = jnp.where(within, wide(x), 0).sum(0)
    return (total / jnp.maximum(length, 1).astype(total.dtype)).astype(x.dtype)


def masked_mean_oracle(x, length):
    return x[:length].sum(0) / max(int(length), 1)


def hidden(w, x):
    return jnp.tanh(x @ w)


DENSE = Right(
    F.dense,
    lambda rng: (rng.normal(size=5), rng.normal(size=(5, 3)), rng.normal(size=3)),
    {"oracle": oracles.dense, "batch_axes": (0, None, None), "batch": True, "reduction": 5, "sum_of_products": True},
)
CONV = Right(
    F.conv,
    layers.conv_args,
    {"oracle": oracles.conv, "batch_axes": (0, None, None), **layers.CONV},
)
NORM = Right(
    normalized,
    lambda rng: (rng.normal(size=6), rng.normal(size=6)),
    {
        "oracle": normalized_oracle,
        "batch_axes": (0, None),
        "batch": True,
        "reduction": 6,
        "roundings": 6,
        "derivative_roundings": 12,
    },
)
SOFTMAX = Right(
    softmax,
    lambda rng: (rng.normal(size=4),),
    {"oracle": softmax_oracle, "batch": True, "reduction": 4, "roundings": 4, "order": 2},
)
LEAKY = Right(
    leaky,
    lambda rng: (rng.uniform(0.2, 0.9, size=2), rng.normal(size=(5, 2))),
    {"oracle": leaky_oracle, "batch_axes": (None, 0), "reduction": 5, "roundings": 10, "derivative_roundings": 20},
)
MEAN = Right(
    masked_mean,
    lambda rng: (rng.normal(size=(5, 2)), np.int32(rng.integers(0, 6))),
    {"oracle": masked_mean_oracle, "reduction": 5, "roundings": 3},
)
HIDDEN = Right(
    hidden,
    lambda rng: (rng.normal(size=(4, 3)) / 2, rng.normal(size=4)),
    {
        "oracle": lambda w, x: np.tanh(x @ w),
        "batch_axes": (None, 0),
        "reduction": 4,
        "roundings": 4,
        "derivative_roundings": 48,
    },
)
RIGHT = {
    "dense": DENSE,
    "conv": CONV,
    "layer norm": NORM,
    "softmax": SOFTMAX,
    "leaky sum": LEAKY,
    "masked mean": MEAN,
    "hidden layer": HIDDEN,
}


# Wrong values.

planted("the kernel is flipped", "values-float32", CONV)(lambda x, k, b: layers.conv(x, k[::-1, ::-1], b))
planted("the kernel is transposed", "values-bfloat16", CONV)(lambda x, k, b: layers.conv(x, k.swapaxes(0, 1), b))
planted("the bias is dropped", "values-float32", CONV)(lambda x, k, b: layers.conv(x, k, 0 * b))
planted("the bias is that of other channels", "values-float16", CONV)(lambda x, k, b: layers.conv(x, k, b[::-1]))
planted("padding is off by one", "values-float32", CONV)(lambda x, k, b: layers.conv(x, k, b, ((0, 2), (1, 1))))
planted("there is no padding", "values-float32", CONV, "shape is")(lambda x, k, b: layers.conv(x, k, b, "VALID"))
planted("one element is off", "values-bfloat16", CONV, r"worst at \[0, 0, 0\]")(
    lambda x, k, b: layers.conv(x, k, b).at[0, 0, 0].add(0.5)
)
planted("the mean divides by n - 1", "values-float32", NORM)(lambda x, g: normalized(x, g) * (5 / 6) ** 0.5)
planted("epsilon is 1e-3 instead of 1e-5", "values-float32", NORM)(
    lambda x, g: g * (x - x.mean(-1)) / jnp.sqrt(x.var(-1) + 1e-3)
)
planted("the first step is forgotten", "values-float32", LEAKY)(lambda d, x: leaky(d, x.at[0].set(0)))
planted("a sequence is returned in reversed order", "values-float32", LEAKY)(lambda d, x: leaky(d, x)[::-1])
planted("steps past the length count", "values-float32", MEAN)(lambda x, n: x.sum(0) / jnp.maximum(n, 1))
planted("float64 is computed in float32", "values-float64", HIDDEN)(
    lambda w, x: hidden(w.astype(jnp.float32), x.astype(jnp.float32)).astype(x.dtype)
)


@planted(
    "sums add up in bfloat16",
    "values-bfloat16",
    DENSE,
    sum_of_products=False,
    reduction=400,
    make_args=lambda rng: (np.abs(rng.normal(size=400)), np.abs(rng.normal(size=(400, 2))), rng.normal(size=2)),
)
def _(x, w, b):
    return lax.fori_loop(0, x.size, lambda i, total: total + x[i] * w[i], jnp.zeros_like(b)) + b


@planted(
    "exponentials overflow in float16", "values-float16", SOFTMAX, make_args=lambda rng: (12 + rng.normal(size=4),)
)
def _(x):
    return jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True)


# Wrong dtypes.

planted("float32 comes out of bfloat16", "dtype-bfloat16", CONV, "dtype: bfloat16")(
    lambda x, k, b: layers.conv(x, k, b).astype(jnp.float32)
)
planted("a float32 constant", "dtype-float16", CONV, "dtype: float16")(
    lambda x, k, b: layers.conv(x, k, b) * np.float32(0.5)
)
planted("float32 half way", "dtype-bfloat16", CONV, "dtype: bfloat16")(
    lambda x, k, b: (layers.conv(x, k, b) * jnp.ones(3)).astype(x.dtype)
)
planted("float64 where x64 is enabled", "dtype-float32", HIDDEN, "dtype: float32 with x64 comes out as float64")(
    lambda w, x: jnp.zeros(3)
)


# What jit, vmap, batch and remat change.

CALLS: list[None] = []
KEPT: list[Any] = []
RANDOM = np.random.default_rng(0)


@planted("state leaks from call to call", "jit-float32", HIDDEN, "jit: state leaks")
def _(w, x):
    CALLS.append(None)
    return hidden(w, x) * len(CALLS)


@planted("a tracer escapes", "jit-float32", HIDDEN, "a tracer escapes")
def _(w, x):
    if isinstance(x, jax.core.Tracer):
        KEPT.append(x * 2)
    return hidden(w, x)


planted("jit freezes a random number", "jit-float32", HIDDEN, "jit: state leaks")(
    lambda w, x: hidden(w, x) + RANDOM.normal()
)
planted("another result under jit", "jit-float32", HIDDEN, r"jit against no jit(.|\n)*every element is 0\.5 times")(
    lambda w, x: hidden(w, x) * (1 if isinstance(x, jax.core.Tracer) else 2)
)
planted("Python branches on a value", "jit-float32", HIDDEN)(lambda w, x: hidden(w, x if x[0] > 0 else -x))
planted("a shape depends on values", "jit-float32", HIDDEN)(lambda w, x: hidden(w, jnp.where(x > 0, x, 0))[x[:3] > 0])
planted("NumPy computes", "jit-float32", HIDDEN)(lambda w, x: np.tanh(np.asarray(x) @ np.asarray(w)))


def with_batching_rule(function, rule):
    mapped = jax.custom_batching.custom_vmap(function)
    mapped.def_vmap(rule)
    return mapped


planted("a batching rule works on the wrong axis", "vmap-float32", SOFTMAX, "vmap against a loop, values")(
    with_batching_rule(softmax, lambda size, batched, x: (jax.nn.softmax(x, axis=0), True))
)
planted("a batching rule takes the first example's weights for all", "vmap-float32", HIDDEN, batch_axes=(0, 0))(
    with_batching_rule(hidden, lambda size, batched, w, x: (hidden(w[0] if batched[0] else w, x), True))
)
planted("statistics over the batch", "batch-float32", NORM, "one batch axis against a loop")(
    lambda x, g: jnp.broadcast_to(g, x.shape) * (x - x.mean(0, keepdims=x.ndim > 1))
)
planted("statistics over all axes", "batch-float32", SOFTMAX)(lambda x: jnp.exp(x) / jnp.exp(x).sum())
planted("only one batch axis works", "batch-float32", DENSE)(
    lambda x, w, b: F.dense(x, w, b) if x.ndim < 3 else F.dense(x[0], w, b)
)
planted("remat draws another number", "remat-float32", HIDDEN, "remat against plain, values")(
    lambda w, x: hidden(w, x) * RANDOM.normal()
)


# Wrong derivatives.


@jax.custom_vjp
def clipped(x):
    return jnp.clip(x, -0.5, 0.5)


clipped.defvjp(lambda x: (clipped(x), None), lambda _, g: (g,))


@jax.custom_vjp
def of_second_input(w, x):
    return hidden(w, x)


of_second_input.defvjp(
    lambda w, x: (hidden(w, x), (w, x)),
    lambda kept, g: (jax.vjp(hidden, *kept)[1](g)[0], -jax.vjp(hidden, *kept)[1](g)[1]),
)


@jax.custom_jvp
def cube(x):
    return x * x * x


cube.defjvp(lambda primals, tangents: (cube(*primals), 3 * lax.stop_gradient(primals[0]) ** 2 * tangents[0]))

planted("a derivative is twice as large", "gradients-float64", CONV)(layers.scaled_gradient(layers.conv, 2))
planted("the bias gets no gradient", "gradients-float64", CONV, r"worst at args\[2\]\[")(
    lambda x, k, b: layers.conv(x, k, lax.stop_gradient(b))
)
planted("one element gets no gradient", "gradients-float64", HIDDEN)(
    lambda w, x: hidden(w.at[2, 1].set(lax.stop_gradient(w[2, 1])), x)
)
planted("the gradient of an input has the other sign", "gradients-float64", HIDDEN, modes=("rev",))(of_second_input)
planted("a gradient passes a clip", "gradients-float64", HIDDEN, modes=("rev",))(lambda w, x: clipped(x @ w * 3))
planted("NaN from the branch that was not taken", "gradients-float64", HIDDEN)(
    lambda w, x: jnp.where(x > 0, jnp.sqrt(x), 0) + 0 * w.sum()
)
planted("only the second derivative is wrong", "gradients-float64", SOFTMAX)(cube)


@jax.custom_vjp
def with_bias(x, b):
    return x + jnp.broadcast_to(b, x.shape)


def summed_in_half(shape, g):
    rows = g.reshape(-1, *shape)
    return g, lax.fori_loop(0, len(rows), lambda i, total: total + rows[i], jnp.zeros(shape, g.dtype))


with_bias.defvjp(lambda x, b: (with_bias(x, b), b), lambda b, g: summed_in_half(b.shape, g))

planted("the bias' gradient adds up in bfloat16", "half_gradients-bfloat16", DENSE, modes=("rev",))(
    lambda x, w, b: with_bias(F.dense(x, w), b)
)
planted("a gradient is scaled to where float16 has no numbers", "half_gradients-float16", HIDDEN)(
    lambda w, x: hidden(w, x * 1e-4) * 1e4 * 1e-6 * 1e6
)


# Sizes zero and one.


planted("a mean over no steps is NaN", "empty-float32", MEAN)(
    lambda x, n: (
        jnp.where(jnp.arange(x.shape[0])[:, None] < n, x, 0).sum(0)
        / x.shape[0]
        * x.shape[0]
        / jnp.maximum(n, 1 if x.shape[0] else 0)
    )
)
planted("an empty batch cannot be flattened", "empty-float32", DENSE)(
    lambda x, w, b: F.dense(x.reshape(len(x), -1) if x.ndim == 2 else x, w, b)
)
planted("an empty batch loses its axis", "empty-float32", SOFTMAX)(lambda x: softmax(x) if x.size else jnp.zeros(4))
planted("a sum written as a mean is NaN over nothing", "empty-float32", HIDDEN)(
    lambda w, x: jnp.tanh((w * x[:, None]).mean(0) * x.size)
)
planted("axes of size one are squeezed away", "single-float32", HIDDEN)(lambda w, x: hidden(w, x).squeeze())
planted("a variance of n - 1 is NaN for one element", "single-float32", NORM)(
    lambda x, g: normalized(x, g) * (x.var(ddof=1) * 0 + 1)
)
planted("one step has no loop and is not decayed", "single-float32", LEAKY)(
    lambda d, x: leaky(d, x) if len(x) > 1 else d[None] * x
)


# What is static.


class Scale:
    """A layer with an option."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x


class Unhashable(Scale):
    def __eq__(self, other):
        return self.factor == other.factor

    __hash__ = None


class Forgetful(Scale):
    def __reduce__(self):
        return Forgetful, (1.0,)


class Anew(Scale):
    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


class OwnFunction(Scale):
    def __init__(self):
        super().__init__(2.0)
        self.activation = lambda x: x


@jax.tree_util.register_pytree_node_class
class Sized:
    """Parameters whose static part is an array."""

    def __init__(self, w, sizes):
        self.w, self.sizes = w, sizes

    def tree_flatten(self):
        return (self.w,), self.sizes

    @classmethod
    def tree_unflatten(cls, sizes, children):
        return cls(*children, sizes)


SCALE = Right(Scale(2.0), lambda rng: (rng.normal(size=3),), {"batch": True})
RIGHT["layer with an option"] = SCALE

planted("a layer with options has no hash", "static-float32", SCALE)(Unhashable(2.0))
planted("a pickle forgets an option", "static-float32", SCALE)(Forgetful(2.0))
planted("a pickle is another key of the compilation cache", "static-float32", SCALE)(Anew(2.0))
planted("a layer holds a lambda", "static-float32", SCALE)(OwnFunction())
planted(
    "the static part of parameters is an array",
    "static-float32",
    SCALE,
    make_args=lambda rng: (Sized(rng.normal(size=3), np.arange(2)),),
)(lambda p: p.w * 2)


# What compiles again, and what cannot be exported.

planted("each call jits a new function", "eager-float32", HIDDEN)(lambda w, x: jax.jit(lambda x: hidden(w, x))(x))
planted("each call scans a new function", "eager-float32", LEAKY)(
    lambda d, x: lax.scan(lambda state, x: (d * state + x,) * 2, jnp.zeros_like(d), x)[1]
)


@planted("each gradient derives a new function", "eager-float32", HIDDEN)
def _(w, x):
    @jax.custom_vjp
    @jax.jit
    def run(w, x):
        return hidden(w, x)

    run.defvjp(lambda w, x: (hidden(w, x), (w, x)), lambda kept, g: jax.jit(lambda g: jax.vjp(hidden, *kept)[1](g))(g))
    return run(w, x)


planted("Python compares the batch's size", "export-float32", SOFTMAX)(
    lambda x: softmax(x) if x.size < 1000 else softmax(x * 1)
)
planted("Python makes a number of the batch's size", "export-float32", DENSE)(
    lambda x, w, b: F.dense(x, w, b) * (int(x.shape[0]) and 1)
)
planted("Python is called back", "export-float32", HIDDEN)(
    lambda w, x: jax.pure_callback(
        lambda w, x: np.tanh(x @ w), jax.ShapeDtypeStruct((3,), x.dtype), w, x, vmap_method="sequential"
    )
)


def caught(bug: Bug) -> str:
    """The message; empty if the bug is not caught."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, of numbers out of range
            check_of(bug, bug.check)()
    except Exception as error:
        return str(error) or type(error).__name__
    return ""


def false_alarms(seeds: range) -> list[str]:
    """Checks that a right layer does not pass: of each seed the values of every layer, and one other check in turn."""
    all_checks = [
        (name, right, check)
        for name, right in RIGHT.items()
        for check in testing.layer_checks(right.function, **right.options)(right.make_args).layer_checks
    ]
    values = [each for each in all_checks if each[2].startswith("values")]
    others = [each for each in all_checks if each not in values]
    found = []
    for seed in seeds:
        for name, right, check in [*values, others[seed % len(others)]]:
            try:
                check_of(right, check, seed)()
            except Exception as error:
                found.append(f"{name}, {check}, seed {seed}: {error}")
    return found


def main() -> int:
    """Prints every bug and what caught it."""
    missed = 0
    for bug in BUGS:
        message = caught(bug).split("\n")[0]
        missed += not message
        print(f"{bug.check:24} {bug.name:62} {message[:110] or 'NOT CAUGHT'}")
    print(f"{len(BUGS) - missed} of {len(BUGS)} caught")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
