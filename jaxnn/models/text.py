"""A classifier of texts."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as F
from jaxnn.modules import Dense
from jaxnn.modules.names import explained
from jaxnn.modules.recurrent.layers import Kind, MakeCell, outline
from jaxnn.modules.recurrent.tokens import checked_tokens, token_layers


@explained
class TextClassifier(nnx.Module):
    r"""An embedding, recurrent layers, a weighted mean over the tokens, and a dense layer to the logits of classes.

    .. math::

        h_1 \dots h_n = \mathrm{LSTM}(E_{x_1} \dots E_{x_n}), \qquad
        a = \mathrm{softmax}_t(q^\top h_t / \sqrt{d}), \qquad z = \Bigl(\sum_t a_t h_t\Bigr) W + b

    The query :math:`q` is learned. It starts at zero, which gives the plain mean; with `pooling="mean"` it stays zero.
    Tokens past a text's length have no weight. The logits of an empty text are :math:`b`.

    Args:
        vocabulary: Number of tokens.
        classes: Number of classes.
        embed_features: Size of an embedding.
        hidden_features: Number of hidden units of each layer and direction.
        kind: `"lstm"`, `"gru"` or `"rnn"`.
        cell: Makes the layers' cells, instead of `kind`: a function `(in_features, hidden_features, *, rngs) -> cell`
            that returns any cell that `modules.Recurrent` takes. It also chooses the dtypes.
        layers: Number of layers.
        bidirectional: Whether the layers run in both directions.
        pooling: The weights of the mean: `"attention"` learns them, `"mean"` gives all tokens the same weight.
        dropout: Rate of dropout on the embeddings, between layers and before the dense layer.
        dtype: The dtype to compute in; that of the parameters by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams: `params`, and `dropout` if the rate is above 0.

    Raises:
        ValueError: If a size, `kind`, `cell`, `pooling` or `dropout` is out of range.

    References:
        Yang et al., Hierarchical attention networks for document classification, 2016 (a learned query over the states
        of a recurrent layer; here with the product of `functional.attention` as the score).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models
        >>> model = models.TextClassifier(11, 3, rngs=nnx.Rngs(0))
        >>> tokens, lengths = jnp.ones((2, 7), int), jnp.array([7, 4])
        >>> model(tokens, lengths=lengths).shape
        (2, 3)
        >>> model.weights(tokens, lengths=lengths)[1]
        Array([0.25, 0.25, 0.25, 0.25, 0.  , 0.  , 0.  ], dtype=float32)
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        *,
        embed_features: int = 64,
        hidden_features: int = 64,
        kind: Kind = "lstm",
        cell: MakeCell | None = None,
        layers: int = 1,
        bidirectional: bool = True,
        pooling: Literal["attention", "mean"] = "attention",
        dropout: float = 0.0,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if pooling not in ("attention", "mean"):
            raise ValueError(f"pooling: expected 'attention' or 'mean', got {pooling!r}")
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.embed, self.drop, self.layers = token_layers(
            vocabulary,
            embed_features,
            hidden_features,
            kind=kind,
            cell=cell,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            **options,
        )
        features = outline(self.layers, embed_features, self.embed.dtype)[0].shape[-1]
        self.query = nnx.Param(jnp.zeros(features, param_dtype)) if pooling == "attention" else None
        self.dense = Dense(features, classes, **options)
        self.vocabulary = vocabulary

    def __call__(self, tokens: jax.typing.ArrayLike, *, lengths: jax.typing.ArrayLike | None = None) -> jax.Array:
        """Classifies texts.

        Args:
            tokens: Integers `(*batch, time)` in 0..vocabulary - 1. Concrete ones outside raise; traced ones above the
                range give NaN.
            lengths: Number of tokens of each text that count, `(*batch,)`; all by default.

        Returns:
            Logits `(*batch, classes)`.

        Raises:
            ValueError: If tokens are not integers or, where concrete, not in the vocabulary; or as `functional.lstm`.
        """
        return self.dense(self.drop(self._pool(tokens, lengths)[0]))

    def weights(self, tokens: jax.typing.ArrayLike, *, lengths: jax.typing.ArrayLike | None = None) -> jax.Array:
        """The weight of each token in the mean, `(*batch, time)`; arguments as for a call."""
        return self._pool(tokens, lengths)[1]

    def _pool(self, tokens: jax.typing.ArrayLike, lengths: jax.typing.ArrayLike | None) -> tuple[jax.Array, jax.Array]:
        outputs = self.layers(self.drop(self.embed(checked_tokens(tokens, self.vocabulary))), lengths=lengths)
        shape = (*outputs.shape[:-2], 1, outputs.shape[-1])
        query = jnp.zeros(shape[-1:]) if self.query is None else self.query[...]
        pooled, weights = F.attention(jnp.broadcast_to(query.astype(outputs.dtype), shape), outputs, lengths=lengths)
        return pooled[..., 0, :], weights[..., 0, :]
