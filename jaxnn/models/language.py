"""A language model: the distribution of the next token, given all tokens before it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.functional import decoding
from jaxnn.modules import Dense
from jaxnn.modules.names import explained
from jaxnn.modules.recurrent.layers import Kind, MakeCell, layers_of, outline, start
from jaxnn.modules.recurrent.tokens import checked_tokens, embedding

State = tuple[Any, ...]
"""The state of each recurrent layer, lowest first."""


@explained
class LanguageModel(nnx.Module):
    r"""An embedding, recurrent layers, dropout and a dense layer to the logits of the next token.

    .. math::

        p(x_{t+1} \mid x_1 \dots x_t) = \mathrm{softmax}(h_t W + b), \qquad h_t = \mathrm{LSTM}(E_{x_1} \dots E_{x_t})

    It streams: each call returns the state for the next call, so a text read in chunks, or token by token with `step`,
    gives the same result as the whole text. Embeddings start with variance 1, like the state of the layers.

    Args:
        vocabulary: Number of tokens.
        embed_features: Size of an embedding.
        hidden_features: Number of hidden units of each layer.
        kind: `"lstm"`, `"gru"` or `"rnn"`.
        cell: Makes the layers' cells, instead of `kind`: a function `(in_features, hidden_features, *, rngs) -> cell`
            that returns any cell that `modules.Recurrent` takes. It also chooses the dtypes.
        layers: Number of layers.
        dropout: Rate of dropout between layers and before the dense layer (Zaremba et al.). Before the dense layer all
            steps of a call share one mask (Gal and Ghahramani).
        dtype: The dtype to compute in; that of the parameters by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams: `params`, and `dropout` if the rate is above 0.

    Raises:
        ValueError: If a size, `kind`, `cell` or `dropout` is out of range.

    References:
        Zaremba, Sutskever and Vinyals, Recurrent neural network regularization, 2014. Gal and Ghahramani, A
        theoretically grounded application of dropout in recurrent neural networks, 2016.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import functional as F
        >>> from jaxnn import models, modules
        >>> model = models.LanguageModel(11, embed_features=4, hidden_features=5, rngs=nnx.Rngs(0))
        >>> logits, state = model(jnp.ones((2, 7), int))
        >>> logits.shape, state[0].h.shape
        ((2, 7, 11), (2, 5))
        >>> model.generate(jnp.ones((2, 3), int), jax.random.key(0), max_length=8).tokens.shape
        (2, 8)
        >>> def cell(features, hidden, *, rngs):
        ...     return modules.Cell(F.mingru_cell(), F.init_mingru(rngs.params(), features, hidden))
        >>> model = models.LanguageModel(11, embed_features=4, hidden_features=5, cell=cell, rngs=nnx.Rngs(0))
        >>> model(jnp.ones((2, 7), int))[0].shape
        (2, 7, 11)
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        embed_features: int = 64,
        hidden_features: int = 512,
        kind: Kind = "lstm",
        cell: MakeCell | None = None,
        layers: int = 1,
        dropout: float = 0.0,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.embed = embedding(vocabulary, embed_features, **options)
        self.layers = layers_of(kind, cell, embed_features, hidden_features, layers=layers, dropout=dropout, **options)
        self.drop = nnx.Dropout(dropout, broadcast_dims=(-2,), rngs=rngs if dropout > 0 else None)
        features = outline(self.layers, embed_features, self.embed.dtype)[0].shape[-1]
        self.out = Dense(features, vocabulary, **options)
        self.vocabulary = vocabulary

    def zero_state(self, batch: tuple[int, ...] = ()) -> State:
        """The state before the first token of sequences with these batch axes."""
        return start(self.layers, self.embed.features, batch, self.embed.dtype)

    def __call__(self, tokens: jax.typing.ArrayLike, state: State | None = None) -> tuple[jax.Array, State]:
        """Reads tokens and predicts the successor of each.

        Args:
            tokens: Integers `(*batch, time)`.
            state: The state that the previous call returned; `zero_state` by default.

        Returns:
            Logits `(*batch, time, vocabulary)` and the state after the last token.

        Raises:
            ValueError: If tokens are not integers or, if concrete, not in the vocabulary, or `state` has another shape.
        """
        x = self.embed(checked_tokens(tokens, self.vocabulary))
        h, state = self.layers(x, state=state, return_state=True)
        return self.out(self.drop(h)), state

    def step(self, state: State, token: jax.Array) -> tuple[jax.Array, State]:
        """One token, without dropout: `(state, (*batch,))` -> logits `(*batch, vocabulary)` and the new state."""
        state, h = self.layers.step(state, self.embed(token), return_output=True)
        return self.out(h), state

    def generate(
        self,
        prompt: jax.typing.ArrayLike,
        key: jax.Array,
        *,
        max_length: int,
        state: State | None = None,
        end: int | None = None,
        temperature: jax.typing.ArrayLike = 1.0,
        top_k: int | None = None,
        top_p: jax.typing.ArrayLike | None = None,
    ) -> decoding.Generated:
        """Continues a prompt, each token drawn from the model's distribution, in one compiled loop.

        Args:
            prompt: Integers `(*batch, time)`, at least one token.
            key: A random key.
            max_length: Largest number of tokens to generate.
            state: The state before the prompt; `zero_state` by default.
            end: The token after which a sequence stops.
            temperature: As in `functional.decoding.sample`.
            top_k: As in `functional.decoding.sample`.
            top_p: As in `functional.decoding.sample`.

        Returns:
            Tokens without the prompt, their lengths and log-probabilities.

        Raises:
            ValueError: If the prompt is empty, or as `__call__` and `functional.decoding.sample`.
        """
        prompt = checked_tokens(prompt, self.vocabulary)
        if prompt.ndim < 1 or prompt.shape[-1] == 0:
            raise ValueError(f"prompt: expected at least one token, got shape {prompt.shape}; begin with any token.")
        last = prompt[..., -1]
        if state is None:
            state = self.zero_state(prompt.shape[:-1])
        if prompt.shape[-1] > 1:
            before = self.embed(prompt[..., :-1])
            _, state = self.layers(before, state=state, deterministic=True, return_state=True)
        return decoding.sample(
            self.step,
            state,
            last,
            key,
            max_length=max_length,
            end=end,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )
