"""The decoder: generates a sequence of tokens, from the result of an encoder or without one (a language model)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.functional import decoding
from jaxnn.functional.attention import attention
from jaxnn.functional.recurrent import check
from jaxnn.modules.dense import Dense
from jaxnn.modules.names import explained
from jaxnn.modules.recurrent.encoder import Encoded
from jaxnn.modules.recurrent.layers import Kind, MakeCell, outline, start
from jaxnn.modules.recurrent.tokens import checked_tokens, token_layers

METHODS: dict[str, Callable[..., decoding.Generated]] = {
    "greedy": decoding.greedy,
    "sample": decoding.sample,
    "beam": decoding.beam_search,
}


class Attention(nnx.Module):
    r"""Combines the outputs of a decoder's layers with attention over a memory.

    .. math:: \tilde h_t = \tanh([h_t; c_t] W + b), \qquad c_t = \mathrm{attention}(h_t W_q + b_q, m, m)

    Attributes:
        query: :math:`W_q`, from the outputs of the layers to the features of the memory.
        join: :math:`W`, from both to the features of the outputs.

    References:
        Luong, Pham and Manning, Effective approaches to attention-based neural machine translation, 2015.
    """

    def __init__(self, features: int, memory_features: int, *, dtype: Any, param_dtype: Any, rngs: nnx.Rngs) -> None:
        self.query = Dense(features, memory_features, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.join = Dense(features + memory_features, features, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, h: jax.Array, encoded: Encoded) -> tuple[jax.Array, jax.Array]:
        """`(*batch, time, features)` -> the same shape, and the weights `(*batch, time, memory time)`."""
        context, weights = attention(self.query(h), encoded.outputs, lengths=encoded.lengths, mask=encoded.mask)
        return jnp.tanh(self.join(jnp.concatenate([h, context], axis=-1))), weights


@explained
class Decoder(nnx.Module):
    r"""Recurrent layers from tokens to the logits of the next token, with attention if there is a memory.

    .. math::

        h_t = \mathrm{cell}(h_{t-1}, E_{y_t}), \qquad
        p(y_{t+1} \mid y_1 \dots y_t) = \mathrm{softmax}(\tilde h_t W_o + b_o)

    The initial state :math:`h_0` is the encoder's, and :math:`\tilde h_t = h_t` without attention. With
    `memory_features`, :math:`h_t` attends over the encoder's outputs and is joined with the result :math:`c_t`,
    :math:`\tilde h_t = \tanh([h_t; c_t] W + b)`. Without input feeding, all steps of training run together.

    Args:
        vocabulary: Number of tokens.
        embed_features: Size of an embedding.
        hidden_features: Number of hidden units of each layer.
        memory_features: `out_features` of the encoder to attend over; None for no attention.
        kind: `"lstm"`, `"gru"` or `"rnn"`.
        cell: Makes the layers' cells, instead of `kind`; as in `Encoder`.
        layers: Number of layers.
        dropout: Rate of dropout on the embeddings and between layers.
        dtype: The dtype to compute in; that of the parameters by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams: `params`, and `dropout` if the rate is above 0.

    Raises:
        ValueError: If a size, `kind`, `cell` or `dropout` is out of range.

    References:
        Luong, Pham and Manning, Effective approaches to attention-based neural machine translation, 2015.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
        >>> encoder = modules.Encoder(11, 4, 5, return_state=True, rngs=nnx.Rngs(0))
        >>> decoder = modules.Decoder(13, 4, 5, memory_features=encoder.out_features, rngs=nnx.Rngs(1))
        >>> encoded = encoder(jnp.ones((2, 7), int))
        >>> logits, state = decoder(jnp.zeros((2, 6), int), encoded)
        >>> logits.shape
        (2, 6, 13)
        >>> decoder.generate(encoded, start=0, end=1, max_length=8).tokens.shape
        (2, 8)
    """

    def __init__(
        self,
        vocabulary: int,
        embed_features: int,
        hidden_features: int,
        *,
        memory_features: int | None = None,
        kind: Kind = "lstm",
        cell: MakeCell | None = None,
        layers: int = 1,
        dropout: float = 0.0,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.embed, self.drop, self.layers = token_layers(
            vocabulary, embed_features, hidden_features, kind=kind, cell=cell, layers=layers, dropout=dropout, **options
        )
        self.vocabulary = vocabulary
        features = outline(self.layers, embed_features, self.embed.dtype)[0].shape[-1]
        memory_features = check.count("memory_features", memory_features)
        self.attend = nnx.data(None if memory_features is None else Attention(features, memory_features, **options))
        self.out = Dense(features, vocabulary, **options)

    def __call__(
        self,
        tokens: jax.typing.ArrayLike,
        encoded: Encoded | None = None,
        *,
        state: tuple[Any, ...] | None = None,
        lengths: jax.typing.ArrayLike | None = None,
        mask: jax.typing.ArrayLike | None = None,
    ) -> tuple[jax.Array, tuple[Any, ...]]:
        """Teacher forcing: the logits of every next token, given the true tokens before it.

        Args:
            tokens: Integers `(*batch, time)`: the target shifted by one, so that it begins with the start token.
            encoded: Result of the encoder: the initial state, and the memory of attention.
            state: Initial state of each layer, instead of the encoder's; without either, the cells' zero state.
            lengths: Number of tokens of each sequence that count.
            mask: Which tokens count, bool `(*batch, time)`; with `lengths`, those that count in both.

        Returns:
            Logits `(*batch, time, vocabulary)` and the final state of each layer.

        Raises:
            ValueError: If tokens lie outside the vocabulary, attention gets no `encoded`, or as `functional.recurrent`.
        """
        x = self.drop(self.embed(checked_tokens(tokens, self.vocabulary)))
        if state is None and encoded is not None:
            state = _checked(encoded).state
        h, final = self.layers(x, state=state, lengths=lengths, mask=mask, return_state=True)
        return self._logits(h, encoded), final

    def attention_weights(self, tokens: jax.typing.ArrayLike, encoded: Encoded) -> jax.Array:
        """The weights with which each step attends to each of the encoder's outputs.

        Args:
            tokens: Integers `(*batch, time)`, as in `__call__`.
            encoded: Result of the encoder.

        Returns:
            Weights `(*batch, time, memory time)`; rows sum to 1.

        Raises:
            ValueError: If the decoder has no attention, or as `__call__`.
        """
        if self.attend is None:
            raise ValueError(
                "attention_weights: expected a decoder with attention, got one without; build it with memory_features=."
            )
        x = self.embed(checked_tokens(tokens, self.vocabulary))
        h = self.layers(x, state=_checked(encoded).state, deterministic=True, return_state=False)
        return self.attend(h, encoded)[1]

    def step(self, state: tuple[Any, ...], token: jax.Array, encoded: Encoded | None = None) -> Any:
        """One step, without dropout: `(state, (*batch,))` -> logits `(*batch, vocabulary)` and the new state."""
        state, h = self.layers.step(state, self.embed(token), return_output=True)
        return self._logits(h[..., None, :], encoded)[..., 0, :], state

    def generate(
        self,
        encoded: Encoded | None = None,
        *,
        start: jax.typing.ArrayLike,
        state: tuple[Any, ...] | None = None,
        max_length: int,
        end: int | None = None,
        method: str = "greedy",
        key: jax.Array | None = None,
        **options: Any,
    ) -> decoding.Generated:
        """Generates sequences in one compiled loop.

        Args:
            encoded: Result of the encoder; its batch axes are those of the generated sequences.
            start: The first input token, one for all sequences or one for each, `(*batch,)`.
            state: Initial state of each layer, instead of the encoder's. To continue a prompt, pass the state that
                `__call__` returns for all its tokens but the last, and the last token as `start`.
            max_length: Largest number of tokens.
            end: The token after which a sequence stops.
            method: `"greedy"`, `"sample"` or `"beam"`.
            key: A random key, for `"sample"`.
            **options: For `"sample"` `temperature`, `top_k`, `top_p`; for `"beam"` `beams`, `length_penalty`: as in
                `functional.decoding`.

        Returns:
            Tokens, lengths and log-probabilities, as in `functional.decoding`.

        Raises:
            ValueError: If the method is unknown, a key is missing or unused, or as `functional.decoding`.
        """
        if method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(map(repr, METHODS))}, got {method!r}")
        if (method == "sample") != (key is not None):
            what, got = ("no key", "one") if key is not None else ("a random key", "None")
            raise ValueError(f"key: expected {what} for method={method!r}, got {got}; only 'sample' draws at random.")
        first = checked_tokens(start, self.vocabulary, "start").astype(jnp.int32)
        if state is None and encoded is not None:
            state = _checked(encoded).state
        if state is None:
            state = self._zero_state(first.shape)
        of_batch, of_none = (jax.tree.leaves(s)[0] for s in (state, jax.eval_shape(lambda: self._zero_state())))
        first = jnp.broadcast_to(first, of_batch.shape[: of_batch.ndim - of_none.ndim])

        def step(state: Any, token: jax.Array) -> tuple[jax.Array, Any]:
            return self.step(state, token, encoded)

        if key is not None:
            options["key"] = key
        return METHODS[method](step, state, first, max_length=max_length, end=end, **options)

    def _zero_state(self, batch: tuple[int, ...] = ()) -> tuple[Any, ...]:
        """The state before the first token."""
        return start(self.layers, self.embed.features, batch, self.embed.dtype)

    def _logits(self, h: jax.Array, encoded: Encoded | None) -> jax.Array:
        """`(*batch, time, hidden)` -> `(*batch, time, vocabulary)`."""
        if self.attend is not None:
            if encoded is None:
                raise ValueError("encoded: expected Encoded for a decoder with attention, got None; call the encoder.")
            h, _ = self.attend(h, _checked(encoded))
        return self.out(h)


def _checked(encoded: Encoded) -> Encoded:
    """Raises if `encoded` is not an `Encoded`, for example an encoder's outputs without its state."""
    if not isinstance(encoded, Encoded):
        raise ValueError(
            f"encoded: expected Encoded, got {type(encoded).__name__}; call the encoder with return_state=True."
        )
    return encoded
