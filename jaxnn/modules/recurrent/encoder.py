"""The encoder: reads a sequence of tokens."""

from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional.exportable import exportable
from jaxnn.modules.dense import Dense
from jaxnn.modules.names import explained
from jaxnn.modules.recurrent.layers import Kind, MakeCell, outline
from jaxnn.modules.recurrent.tokens import checked_tokens, token_layers


@exportable
class Encoded(NamedTuple):
    """The result of an encoder, as a decoder takes it.

    Attributes:
        outputs: `(*batch, time, out_features)`, one vector per token; zero for a token that does not count.
        state: Initial state of each layer of the decoder.
        lengths: `(*batch,)`, the number of tokens of each sequence that count, or None.
        mask: Bool `(*batch, time)`, which tokens count, or None. With `lengths`, those that count in both.
    """

    outputs: jax.Array
    state: tuple[Any, ...]
    lengths: jax.Array | None = None
    mask: jax.Array | None = None


class Counted(TypedDict, total=False):
    """Which tokens count."""

    lengths: jax.typing.ArrayLike | None
    mask: jax.typing.ArrayLike | None


@explained
class Encoder(nnx.Module):
    r"""Embeds tokens and reads them with recurrent layers, in both directions by default.

    .. math:: h_t = \mathrm{cell}(h_{t-1}, E_{x_t}), \qquad s = \tanh([\overrightarrow h_n; \overleftarrow h_1] W + b)

    The outputs are :math:`h_t`, of both directions side by side. A decoder with the same number of layers and hidden
    units starts from the final state of each layer; if the layers are bidirectional, that is :math:`s`, which a dense
    layer with tanh makes from both directions.

    Args:
        vocabulary: Number of tokens.
        embed_features: Size of an embedding.
        hidden_features: Number of hidden units of each layer and direction.
        kind: `"lstm"`, `"gru"` or `"rnn"`.
        cell: Makes the layers' cells, instead of `kind`: a function `(in_features, hidden_features, *, rngs) -> cell`
            that returns any cell that `Recurrent` takes, for example `nnx.GRUCell`. It also chooses the dtypes.
        layers: Number of layers.
        bidirectional: Whether the layers run in both directions. The state of a cell must then consist of real arrays
            `(*batch, features)`.
        dropout: Rate of dropout on the embeddings and between layers.
        return_state: Whether calls return an `Encoded` instead of the outputs alone, unless a call says otherwise.
        dtype: The dtype to compute in; that of the parameters by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams: `params`, and `dropout` if the rate is above 0.

    Attributes:
        out_features: Number of features of the outputs.

    Raises:
        ValueError: If a size, `kind`, `cell` or `dropout` is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
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
        self.vocabulary = vocabulary
        self.return_state = return_state
        out, states = outline(self.layers, embed_features, self.embed.dtype)
        self.out_features = out.shape[-1]

        def bridge(leaf: jax.ShapeDtypeStruct) -> Dense:
            if leaf.ndim != 1 or not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(
                    "bidirectional: expected a cell whose state is arrays of real numbers (*batch, features), which a "
                    f"dense layer joins, got {leaf.dtype} {leaf.shape}; use bidirectional=False."
                )
            return Dense(2 * leaf.shape[-1], leaf.shape[-1], param_dtype=param_dtype, rngs=rngs)

        self.bridges = nnx.data(
            [[bridge(leaf) for leaf in jax.tree.leaves(state.forward)] for state in states] if bidirectional else []
        )

    @overload
    def __call__(
        self, tokens: jax.typing.ArrayLike, *, return_state: Literal[False], **options: Unpack[Counted]
    ) -> jax.Array: ...

    @overload
    def __call__(
        self, tokens: jax.typing.ArrayLike, *, return_state: Literal[True], **options: Unpack[Counted]
    ) -> Encoded: ...

    @overload
    def __call__(
        self, tokens: jax.typing.ArrayLike, *, return_state: bool | None = None, **options: Unpack[Counted]
    ) -> Any: ...

    def __call__(
        self,
        tokens: jax.typing.ArrayLike,
        *,
        lengths: jax.typing.ArrayLike | None = None,
        mask: jax.typing.ArrayLike | None = None,
        return_state: bool | None = None,
    ) -> Any:
        """Reads tokens `(*batch, time)`.

        Args:
            tokens: Integers in 0..vocabulary - 1. Concrete ones outside raise; traced ones cannot, and those above
                the range give NaN.
            lengths: Number of tokens of each sequence that count.
            mask: Which tokens count, bool `(*batch, time)`; with `lengths`, those that count in both.
            return_state: Whether to return what a decoder takes; the attribute by default.

        Returns:
            The outputs `(*batch, time, out_features)`, zero for tokens that do not count; with `return_state` an
            `Encoded` of outputs, the decoder's initial state, lengths and mask.

        Raises:
            ValueError: If tokens are not integers or, where concrete, not in the vocabulary; or as
                `functional.recurrent`.
        """
        x = self.drop(self.embed(checked_tokens(tokens, self.vocabulary)))
        outputs, state = self.layers(x, lengths=lengths, mask=mask, return_state=True)
        if not (self.return_state if return_state is None else return_state):
            return outputs
        if self.bridges:
            state = tuple(self._join(s, b) for s, b in zip(state, self.bridges, strict=True))
        return Encoded(outputs, state, *(None if a is None else jnp.asarray(a) for a in (lengths, mask)))

    def _join(self, state: F.Directions[Any], bridges: list[Dense]) -> Any:
        forward, tree = jax.tree.flatten(state.forward)
        pairs = zip(forward, jax.tree.leaves(state.backward), bridges, strict=True)
        joined = [jnp.tanh(bridge(jnp.concatenate([f, b], axis=-1))) for f, b, bridge in pairs]
        return jax.tree.unflatten(tree, joined)
