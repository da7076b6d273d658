"""The input side of token models: checks of tokens, their embedding, and the layers that read them."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.counts import check_count
from jaxnn.functional.arguments import array
from jaxnn.functional.programs import concrete
from jaxnn.functional.recurrent import check
from jaxnn.kernels.accumulate import widened
from jaxnn.modules.recurrent.layers import MakeCell, layers_of
from jaxnn.modules.recurrent.stack import Recurrent


class Embedding(nnx.Embed):
    """`nnx.Embed` whose gradient sums over all places of a token in float32, also in half precision."""

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """Integers `(*batch,)` -> `(*batch, features)`, in `dtype`."""
        if out_sharding is not None:
            return super().__call__(inputs, out_sharding)
        return jnp.take(widened(self.embedding[...]), inputs, axis=0).astype(self.dtype)


def embedding(vocabulary: int, features: int, dtype: Any, param_dtype: Any, rngs: nnx.Rngs) -> Embedding:
    """Makes an embedding in the dtype to compute in.

    The embedding has variance 1, like the state that layers see beside it. Flax's default of 1 / features suits
    embeddings that are also the output's weights.
    """
    for name, size in (("vocabulary", vocabulary), ("embed_features", features)):
        check_count(name, size)
    return Embedding(
        vocabulary,
        features,
        dtype=dtype or param_dtype,
        param_dtype=param_dtype,
        embedding_init=jax.nn.initializers.normal(1.0),
        rngs=rngs,
    )


def token_layers(
    vocabulary: int,
    embed_features: int,
    hidden_features: int,
    *,
    kind: str,
    cell: MakeCell | None,
    layers: int,
    bidirectional: bool = False,
    dropout: float,
    dtype: Any,
    param_dtype: Any,
    rngs: nnx.Rngs,
) -> tuple[Embedding, nnx.Dropout, Recurrent]:
    """Makes an embedding, the dropout on it, and the recurrent layers above; the arguments are those of `Encoder`."""
    options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    embed = embedding(vocabulary, embed_features, **options)
    drop = nnx.Dropout(dropout, rngs=rngs if check.rate("dropout", dropout) else None)
    size: dict[str, Any] = {"layers": layers, "bidirectional": bidirectional, "dropout": dropout}
    return embed, drop, layers_of(kind, cell, embed_features, hidden_features, **size, **options)


def checked_tokens(tokens: jax.typing.ArrayLike, vocabulary: int, name: str = "tokens") -> jax.Array:
    """Tokens as an array; raises if they are not integers or, if concrete, lie outside the vocabulary."""
    t = array(name, tokens)
    if not jnp.issubdtype(t.dtype, jnp.integer):
        raise ValueError(f"{name}: expected integers, got {t.dtype}")
    known = concrete(tokens)
    if known is not None and known.size and (known.min() < 0 or known.max() >= vocabulary):
        raise ValueError(
            f"{name}: expected tokens of the vocabulary, 0..{vocabulary - 1}, got {known.min()}..{known.max()}"
        )
    return t
