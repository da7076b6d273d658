"""Precision as one choice: the dtypes of a model and, for float16, the loss scale of its training."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args

import jax.numpy as jnp

from jaxnn.train.step.loss_scale import LossScale

Name = Literal["float32", "bf16", "float16", "mixed"]

_COMPUTE = {"float32": jnp.float32, "bf16": jnp.bfloat16, "mixed": jnp.bfloat16, "float16": jnp.float16}


@dataclasses.dataclass(frozen=True)
class Precision:
    """The result of `precision`: `**choice` passes `dtype` and `param_dtype` to a module.

    Attributes:
        dtype: The dtype that layers compute in.
        param_dtype: The dtype of their parameters.
        loss_scale: The argument of `create_state`; None if gradients need none.
    """

    dtype: Any
    param_dtype: Any
    loss_scale: LossScale | None = None

    def keys(self) -> Iterator[str]:
        """The names of the arguments of a module."""
        return iter(("dtype", "param_dtype"))

    def __getitem__(self, name: str) -> Any:
        """The argument of a module by name."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}[name]


def precision(
    name: Name = "float32",
    *,
    param_dtype: Any = jnp.float32,
    loss_scale: Literal["auto", "dynamic"] | float | None = "auto",
) -> Precision:
    """Chooses the precision to train in, for the model and for its training.

    | Name      | Computes in | Parameters | Loss scale |
    |-----------|-------------|------------|------------|
    | `float32` | float32     | float32    | none       |
    | `bf16`    | bfloat16    | float32    | none       |
    | `float16` | float16     | float32    | dynamic    |

    `mixed` is another name of `bf16`. Parameters and optimiser state are float32, so that small updates are not rounded
    away; products accumulate in float32, and losses are computed in float32. bfloat16 has the range of float32 and 8
    significant bits. float16 has 11 significant bits and a range so small that gradients need a `LossScale`.

    Args:
        name: One of the names above.
        param_dtype: Dtype of the parameters. Half precision halves their memory; combine it with `train.optimizer`,
            whose updates are float32.
        loss_scale: `"auto"` as in the table, `"dynamic"`, a number for a static scale, or None.

    Returns:
        The choice: `**choice` for the model, `choice.loss_scale` for `create_state`.

    Raises:
        ValueError: If the name is unknown or the scale is not a number from 1 to 2^24.

    References:
        Micikevicius et al., Mixed Precision Training, ICLR 2018, https://arxiv.org/abs/1710.03740.
        Kalamkar et al., A Study of BFLOAT16 for Deep Learning Training, 2019, https://arxiv.org/abs/1905.12322.

    Example:
        >>> import jax, optax
        >>> from flax import nnx
        >>> from jaxnn import models, train
        >>> half = train.precision("float16")
        >>> model = models.MLP((4, 8, 3), **half, rngs=nnx.Rngs(0))
        >>> state = train.create_state(model, optax.adam(1e-3), jax.random.key(0), loss_scale=half.loss_scale)
        >>> state.params["layers"][0]["kernel"].dtype, model(jax.numpy.ones((5, 4))).dtype
        (dtype('float32'), dtype('float16'))
    """
    if name not in get_args(Name):
        raise ValueError(f"name: expected one of {', '.join(map(repr, get_args(Name)))}, got {name!r}")
    scale: LossScale | None
    if loss_scale is None or (loss_scale == "auto" and name != "float16"):
        scale = None
    elif loss_scale in ("auto", "dynamic"):
        scale = LossScale.dynamic()
    else:
        scale = LossScale.static(loss_scale)  # type: ignore[arg-type]
    return Precision(_COMPUTE[name], param_dtype, scale)
