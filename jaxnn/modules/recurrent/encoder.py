"""The encoder: reads a sequence of tokens."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export

from jaxnn import functional as R
from jaxnn.kernels.accumulate import widened
from jaxnn.modules.dense import Dense
from jaxnn.modules.names import explained
from jaxnn.modules.recurrent.layers import GRU, LSTM, RNN, Sized
from jaxnn.modules.recurrent.stack import Layer, Recurrent, cells_of, outline

Kind = Literal["rnn", "gru", "lstm"]
KINDS: dict[str, type[Sized]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}

MakeCell = Callable[..., nnx.Module]
"""`(in_features, hidden_features, *, rngs) -> cell`: `nnx.GRUCell`, `functools.partial(LSTMCell, projection=8)`."""


class Encoded(NamedTuple):
    """What an encoder hands to a decoder.

    Attributes:
      outputs: `(*batch, time, out_features)`, one vector for every token; zero past a sequence's length.
      state: the initial state of each layer of the decoder.
      lengths: `(*batch,)`, or None where every token counts.
    """

    outputs: jax.Array
    state: tuple[Any, ...]
    lengths: jax.Array | None


export.register_namedtuple_serialization(Encoded, serialized_name="jaxnn.Encoded")


@explained
class Encoder(nnx.Module):
    """Embeds tokens and reads them by recurrent layers, in both directions by default.

    The state that a decoder of as many layers and hidden units starts from is each layer's final state; where the
    layers are bidirectional, a dense layer with tanh joins the two directions.

    Args:
      vocabulary: the number of tokens.
      embed_features: the size of an embedding.
      hidden_features: the number of hidden units of each layer and direction.
      kind: `"lstm"`, `"gru"` or `"rnn"`.
      cell: what makes the layers' cells, in the place of `kind`: any `(in_features, hidden_features, *, rngs) -> cell`
        of a cell that `Recurrent` takes, `nnx.GRUCell` for instance. The dtypes of such a cell are its own.
      layers: how many layers.
      bidirectional: whether the layers go both ways.
      dropout: the rate of dropout on the embeddings and between layers.
      return_state: whether calls return an `Encoded` instead of the outputs alone, unless a call says otherwise.
      dtype: to compute in; that of the parameters by default.
      param_dtype: of the parameters.
      rngs: `params`, and `dropout` where there is some.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from jaxnn.modules import recurrent as modules
    >>> encoder = modules.Encoder(11, 4, 5, rngs=nnx.Rngs(0))
    >>> encoder(jnp.ones((2, 7), int)).shape
    (2, 7, 10)
    >>> encoded = encoder(jnp.ones((2, 7), int), lengths=jnp.array([7, 4]), return_state=True)
    >>> encoded.outputs.shape, encoded.state[0].h.shape
    ((2, 7, 10), (2, 5))
    """

    def __init__(
        self,
        vocabulary: int,
        embed_features: int,
        hidden_features: int,
        *,
        kind: Kind = "lstm",
        cell: MakeCell | None = None,
        layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        return_state: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.embed = embedding(vocabulary, embed_features, dtype, param_dtype, rngs)
        self.drop = nnx.Dropout(dropout, rngs=rngs if dropout > 0 else None)
        self.layers = recurrent_layers(
            kind,
            cell,
            embed_features,
            hidden_features,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.vocabulary = vocabulary
        self.return_state = return_state
        out, states = outline(self.layers, embed_features, self.embed.dtype)
        self.out_features = out.shape[-1]

        def bridge(leaf: jax.Array) -> Dense:
            return Dense(2 * leaf.shape[-1], leaf.shape[-1], param_dtype=param_dtype, rngs=rngs)

        self.bridges = nnx.data(
            [[bridge(leaf) for leaf in jax.tree.leaves(state.forward)] for state in states] if bidirectional else []
        )

    @overload
    def __call__(
        self, tokens: jax.Array, *, lengths: jax.typing.ArrayLike | None = None, return_state: Literal[False]
    ) -> jax.Array: ...

    @overload
    def __call__(
        self, tokens: jax.Array, *, lengths: jax.typing.ArrayLike | None = None, return_state: Literal[True]
    ) -> Encoded: ...

    @overload
    def __call__(
        self, tokens: jax.Array, *, lengths: jax.typing.ArrayLike | None = None, return_state: bool | None = None
    ) -> Any: ...

    def __call__(
        self, tokens: jax.Array, *, lengths: jax.typing.ArrayLike | None = None, return_state: bool | None = None
    ) -> Any:
        """Reads tokens `(*batch, time)`.

        Args:
          tokens: integers in 0..vocabulary - 1. Concrete ones elsewhere raise; traced ones cannot, and those above
            give NaN.
          lengths: how many tokens of each sequence count.
          return_state: whether to return what a decoder takes; the attribute by default.

        Returns:
          The outputs `(*batch, time, out_features)`; with `return_state` an `Encoded` of outputs, the decoder's initial
          state and lengths.

        Raises:
          ValueError: tokens that are not integers or, where concrete, not in the vocabulary; or as `functional.lstm`.
        """
        x = self.drop(self.embed(checked_tokens(tokens, self.vocabulary)))
        if not (self.return_state if return_state is None else return_state):
            return self.layers(x, lengths=lengths, return_state=False)
        outputs, state = self.layers(x, lengths=lengths, return_state=True)
        if self.bridges:
            state = tuple(self._join(s, b) for s, b in zip(state, self.bridges, strict=True))
        return Encoded(outputs, state, None if lengths is None else jnp.asarray(lengths))

    def _join(self, state: R.Directions[Any], bridges: list[Dense]) -> Any:
        forward, tree = jax.tree.flatten(state.forward)
        pairs = zip(forward, jax.tree.leaves(state.backward), bridges, strict=True)
        joined = [jnp.tanh(bridge(jnp.concatenate([f, b], axis=-1))) for f, b, bridge in pairs]
        return jax.tree.unflatten(tree, joined)


def layers_of(kind: str) -> type[Sized]:
    """The module for a kind of layer."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    return KINDS[kind]


def recurrent_layers(
    kind: str,
    cell: MakeCell | None,
    in_features: int,
    hidden_features: int,
    *,
    layers: int,
    bidirectional: bool = False,
    dropout: float,
    dtype: Any,
    param_dtype: Any,
    rngs: nnx.Rngs,
) -> Recurrent:
    """Layers of a kind, or of the cells that `cell` makes."""
    if cell is None:
        return layers_of(kind)(
            in_features,
            hidden_features,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )

    def make(features: int) -> nnx.Module:
        return cell(features, hidden_features, rngs=rngs)

    def features(layer: Layer, size: int) -> int:
        return outline(Recurrent(layer), size, dtype or param_dtype)[0].shape[-1]

    cells = cells_of(make, in_features, features, layers=layers, bidirectional=bidirectional)
    return Recurrent(cells, dropout=dropout, rngs=rngs)


class Embedding(nnx.Embed):
    """`nnx.Embed`, whose gradient adds up what a token gets from all its places in float32, not in half precision."""

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """Integers `(*batch,)` -> `(*batch, features)`, in `dtype`."""
        if out_sharding is not None:
            return super().__call__(inputs, out_sharding)
        return jnp.take(widened(self.embedding[...]), inputs, axis=0).astype(self.dtype)


def embedding(vocabulary: int, features: int, dtype: Any, param_dtype: Any, rngs: nnx.Rngs) -> Embedding:
    """An embedding in the dtype to compute in.

    Its variance is 1, so that layers see their input from the start as well as their state; Flax's default of
    1 / features is made for embeddings that also serve as the output's weights.
    """
    for name, size in (("vocabulary", vocabulary), ("embed_features", features)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    return Embedding(
        vocabulary,
        features,
        dtype=dtype or param_dtype,
        param_dtype=param_dtype,
        embedding_init=jax.nn.initializers.normal(1.0),
        rngs=rngs,
    )


def checked_tokens(tokens: jax.typing.ArrayLike, vocabulary: int, name: str = "tokens") -> jax.Array:
    """Tokens as an array; raises where they are no integers or, if concrete, lie outside the vocabulary."""
    if not isinstance(tokens, jax.core.Tracer):
        known = np.asarray(tokens)
        if known.dtype.kind in "iu" and known.size and (known.min() < 0 or known.max() >= vocabulary):
            raise ValueError(
                f"{name} must lie in 0..{vocabulary - 1}, the vocabulary, got {known.min()}..{known.max()}"
            )
    t = jnp.asarray(tokens)
    if not jnp.issubdtype(t.dtype, jnp.integer):
        raise ValueError(f"{name} must be integers, got {t.dtype}")
    return t
