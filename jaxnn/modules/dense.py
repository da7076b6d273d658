"""The dense module."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional import arguments
from jaxnn.modules.names import explained
from jaxnn.modules.parameters import Initializer, in_dtype, parameter
from jaxnn.modules.static import hashable

_kernel_init = jax.nn.initializers.lecun_normal()


@explained
class Dense(nnx.Module):
    """A dense layer: `functional.dense` with a kernel and a bias.

    Maps `(*batch, in_features)` to `(*batch, out_features)`.

    Args:
        in_features: Features of the input.
        out_features: Features of the output.
        use_bias: Whether the layer has a bias.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        precision: Precision of the product, as in `jax.lax`.
        kernel_init: Initialiser of the kernel; LeCun normal by default.
        bias_init: Initialiser of the bias; zeros by default.
        kernel_metadata: Metadata of the kernel's `nnx.Param`, for example its sharding.
        bias_metadata: Metadata of the bias's `nnx.Param`.
        rngs: Random streams; the parameters come from the stream `params`.

    Attributes:
        kernel: `(in_features, out_features)`.
        bias: `(out_features,)`, or None.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
        >>> modules.Dense(4, 2, rngs=nnx.Rngs(0))(jnp.ones((3, 4))).shape
        (3, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        kernel_init: Initializer = _kernel_init,
        bias_init: Initializer = jax.nn.initializers.zeros,
        kernel_metadata: Mapping[str, Any] | None = None,
        bias_metadata: Mapping[str, Any] | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        in_features = arguments.integer("in_features", in_features, 1)
        out_features = arguments.integer("out_features", out_features, 1)
        self.kernel = parameter(
            "kernel_init", kernel_init, rngs, (in_features, out_features), param_dtype, kernel_metadata
        )
        self.bias = (
            parameter("bias_init", bias_init, rngs, (out_features,), param_dtype, bias_metadata) if use_bias else None
        )
        self.dtype = dtype
        self.precision = hashable(precision)

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, in_features)` -> `(*batch, out_features)`."""
        x, kernel, bias = in_dtype(self.dtype, x, self.kernel, self.bias)
        return F.dense(x, kernel, bias, precision=self.precision)
