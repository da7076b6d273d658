"""Every convolutional and feed-forward module once: how it is made, and the same as a call of the function."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnn import functional as F
from jaxnn import modules

NORMAL = jax.nn.initializers.normal()


@dataclasses.dataclass(frozen=True)
class Layer:
    name: str
    make: Callable[..., nnx.Module]
    call: Callable[..., jax.Array]
    shape: tuple[int, ...]
    has_params: bool = True

    def __str__(self) -> str:
        return self.name

    def new(self, seed: int = 0, **options: Any) -> nnx.Module:
        return self.make(rngs=nnx.Rngs(seed), **options) if self.has_params else self.make(**options)

    def x(self, seed: int = 0, dtype: Any = jnp.float32) -> jax.Array:
        return jax.device_put(np.random.default_rng(seed).normal(size=self.shape).astype(dtype))

    def expected(self, module: nnx.Module, x: jax.Array) -> jax.Array:
        if not self.has_params:
            return self.call(x)
        bias = None if module.bias is None else module.bias[...]
        return self.call(x, module.kernel[...], bias)


def _layer(name, cls, args, function, shape, **options):
    def make(**more):
        return cls(*args, **options, **({"bias_init": NORMAL} if options.get("use_bias", True) else {}), **more)

    options_of_function = {k: v for k, v in options.items() if k != "use_bias"}
    return Layer(name, make, lambda *a: function(*a, **options_of_function), shape)


def _pool(name, cls, function, shape, *args, **options):
    return Layer(name, lambda: cls(*args, **options), lambda x: function(x, *args, **options), shape, has_params=False)


PARAMETRIC = [
    _layer("Conv", modules.Conv, (3, 4, (3, 2)), F.conv, (2, 6, 5, 3)),
    _layer(
        "Conv with options",
        modules.Conv,
        (4, 6, [3, 2]),
        F.conv,
        (2, 7, 8, 4),
        stride=[2, 1],
        padding=[[1, 0], [0, 2]],
        pad_mode="reflect",
        dilation=[1, 2],
        groups=2,
        precision="highest",
    ),
    _layer("Conv 1d", modules.Conv, (3, 4, (3,)), F.conv, (2, 6, 3), padding="CAUSAL", use_bias=False),
    _layer("Conv 3d", modules.Conv, (2, 4, (2, 3, 2)), F.conv, (2, 3, 4, 3, 2), padding=1),
    _layer("ConvTranspose", modules.ConvTranspose, (3, 4, 3), F.conv_transpose, (2, 4, 5, 3), stride=2),
    _layer(
        "ConvTranspose with options",
        modules.ConvTranspose,
        (4, 8, (3, 2)),
        F.conv_transpose,
        (2, 3, 4, 4),
        stride=[2, 3],
        padding=[[1, 0], [0, 1]],
        output_padding=[1, 2],
        dilation=[2, 1],
        groups=2,
        use_bias=False,
    ),
    _layer("Dense", modules.Dense, (5, 4), F.dense, (2, 3, 5)),
    _layer("Dense without bias", modules.Dense, (5, 4), F.dense, (5,), use_bias=False),
]

PLAIN = [
    _pool("MaxPool", modules.MaxPool, F.max_pool, (2, 6, 7, 3), 2),
    _pool(
        "MaxPool with options",
        modules.MaxPool,
        F.max_pool,
        (2, 7, 8, 3),
        [3, 2],
        stride=[2, 1],
        padding=[[1, 0], [0, 1]],
        dilation=[1, 2],
        ceil_mode=True,
    ),
    _pool("AvgPool", modules.AvgPool, F.avg_pool, (2, 6, 7, 3), 2),
    _pool(
        "AvgPool with options",
        modules.AvgPool,
        F.avg_pool,
        (2, 7, 3),
        (3,),
        stride=2,
        padding="SAME",
        ceil_mode=True,
        count_include_pad=True,
    ),
    Layer("Flatten", modules.Flatten, lambda x: x.reshape(2, -1), (2, 3, 4, 5), has_params=False),
]

LAYERS = [*PARAMETRIC, *PLAIN]
