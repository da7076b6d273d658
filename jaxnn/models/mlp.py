"""The feed-forward network."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.functional.arguments import functions
from jaxnn.modules import Dense
from jaxnn.modules.names import explained
from jaxnn.modules.parameters import Initializer
from jaxnn.modules.static import static_function

_kernel_init = jax.nn.initializers.glorot_uniform()


@explained
class MLP(nnx.Module):
    r"""A multi-layer perceptron: :math:`h_l = \sigma(h_{l-1} W_l + b_l)`, and a last layer without activation.

    Maps `(*batch, features[0])` to `(*batch, features[-1])`.

    Args:
        features: Number of features of the input, of each hidden layer, and of the output.
        activation: Activation :math:`\sigma` of the hidden layers, for example `jax.nn.sigmoid` or `jax.nn.tanh`.
        kernel_init: Initialiser of the weights; Glorot uniform by default.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams; parameters come from the stream `params`.

    Raises:
        ValueError: If there are fewer than two features.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models
        >>> net = models.MLP((64, 100, 10), activation=jax.nn.sigmoid, rngs=nnx.Rngs(0))
        >>> net(jnp.ones((5, 64))).shape
        (5, 10)
    """

    def __init__(
        self,
        features: Sequence[int],
        *,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
        kernel_init: Initializer = _kernel_init,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if not hasattr(features, "__len__") or len(features) < 2:
            raise ValueError(f"features: expected those of the input and the output at least, got {features!r}")
        functions(activation=activation)
        self.activation = static_function(activation)
        self.layers = nnx.List(
            [
                Dense(before, after, kernel_init=kernel_init, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
                for before, after in itertools.pairwise(features)
            ]
        )

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, features[0])` -> `(*batch, features[-1])`."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)
