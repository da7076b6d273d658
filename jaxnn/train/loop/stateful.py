"""A recurrent model whose state is carried from training step to training step, and its bits per token of a text."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnn.counts import check_count
from jaxnn.train.loop.computed import Chunk
from jaxnn.train.losses.types import Metrics


class Carried(nnx.Variable):
    """An array that a module carries from one call to the next; training keeps it beside the parameters."""


class Stateful(nnx.Module):
    """A recurrent model that reads parallel streams and carries its state from call to call.

    Gradients stop at the start of a call: this is truncated back-propagation through time.

    Args:
        model: A module called as `(x, state) -> (outputs, state)`, with `zero_state(batch_axes) -> state`, for
            example `models.LanguageModel`. The state is a pytree of arrays `(*batch_axes, ...)`.
        streams: Number of parallel streams.

    Attributes:
        model: The module.
        carried: The carried state, arrays `(streams, ...)`.

    Raises:
        ValueError: If `streams` is not at least 1, or the module has no `zero_state`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models, train
        >>> model = models.LanguageModel(5, embed_features=4, hidden_features=8, rngs=nnx.Rngs(0))
        >>> reader = train.loop.Stateful(model, 2)
        >>> tokens, no = jnp.ones((2, 6), int), jnp.zeros(2, bool)
        >>> parts = [reader(tokens[:, :3], no), reader(tokens[:, 3:], no)]
        >>> bool(jnp.allclose(jnp.concatenate(parts, 1), model(tokens)[0], atol=1e-6))
        True
    """

    def __init__(self, model: Any, streams: int):
        if not callable(getattr(model, "zero_state", None)):
            raise ValueError(
                f"model: expected a module with zero_state(batch_axes), got {type(model).__name__}; define it, and "
                "call the module as (x, state) -> (outputs, state)."
            )
        self.model = model
        self.carried = nnx.data(
            [Carried(array) for array in jax.tree.leaves(model.zero_state((check_count("streams", streams),)))]
        )

    def __call__(self, x: Any, fresh: jax.Array) -> Any:
        """Reads the next elements of each stream.

        Args:
            x: `(streams, time, ...)`.
            fresh: Which streams restart, bool `(streams,)`.

        Returns:
            The outputs of the model, `(streams, time, ...)`.

        Raises:
            ValueError: If the number of streams is not that of the state.
        """
        start, structure = jax.tree.flatten(self.model.zero_state(fresh.shape))
        if [zero.shape for zero in start] != [array[...].shape for array in self.carried]:
            streams = self.carried[0][...].shape[0]
            raise ValueError(
                f"x: expected {streams} streams, for which Stateful(model, {streams}) was made, got {fresh.shape[0]}; "
                "give Stateful and TBPTT the same number."
            )
        before = [
            jnp.where(fresh.reshape(-1, *[1] * (zero.ndim - 1)), zero, jax.lax.stop_gradient(array[...]))
            for zero, array in zip(start, self.carried, strict=True)
        ]
        outputs, after = self.model(x, jax.tree.unflatten(structure, before))
        for kept, array in zip(self.carried, jax.tree.leaves(after), strict=True):
            kept[...] = array
        return outputs


def next_token_loss(model: Any, chunk: Chunk, key: jax.Array | None) -> tuple[jax.Array, Metrics]:
    r"""The cross-entropy of every next token, a loss function for `TBPTT` data of integer tokens.

    .. math:: \ell = -\frac{1}{T} \sum_{t=1}^{T} \log p(x_{t+1} \mid x_1, \dots, x_t)

    Args:
        model: A `Stateful` model of logits `(streams, time, vocabulary)`.
        chunk: Tokens `(streams, time + 1)`.
        key: Not used.

    Returns:
        The losses in nats, a mean for each stream, `(streams,)`, and no metrics.

    Raises:
        ValueError: If the model is not `Stateful`.
    """
    if not isinstance(model, Stateful) and hasattr(model, "zero_state"):
        raise ValueError(
            f"model: expected a train.loop.Stateful, got a {type(model).__name__}; create the state of "
            "train.loop.Stateful(model, streams), which carries the model's state."
        )
    logits = model(chunk.values[:, :-1], chunk.fresh)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), chunk.values[:, 1:])
    return losses.mean(-1), {}


@partial(jax.jit, static_argnames=("pieces", "chunk"))
def bits_per_token(model: Any, tokens: jax.Array, before: jax.Array, *, pieces: int = 1, chunk: int = 256) -> jax.Array:
    r"""The mean negative log-likelihood of the tokens of a text, in bits.

    .. math:: -\frac{1}{T} \sum_{t=1}^{T} \log_2 p(x_t \mid x_1, \dots, x_{t-1})

    Args:
        model: A language model as `Stateful` takes it, in evaluation mode.
        tokens: The text, integers `(time,)`; each token is predicted and counts once.
        before: The token before the first, `()`.
        pieces: Number of pieces to read in parallel, each from the initial state, which is faster and a little
            pessimistic. With 1, the number to report, the state is carried from the first token to the last.
        chunk: Tokens of each piece that one call reads; it does not change the result.

    Returns:
        Bits per token, float32 `()`; two to this power is the perplexity.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models, train
        >>> model = models.LanguageModel(5, embed_features=4, hidden_features=8, rngs=nnx.Rngs(0))
        >>> model.out.kernel[...] = jnp.zeros((8, 5))  # all tokens are as probable
        >>> round(float(train.loop.bits_per_token(model, jnp.arange(40) % 5, jnp.array(4))), 4)
        2.3219
    """
    length = tokens.shape[0]
    calls = -(-length // (pieces * chunk))
    filling = pieces * calls * chunk - length
    inputs = jnp.concatenate([before[None].astype(tokens.dtype), tokens[:-1]])
    # (calls, pieces, chunk), so that a scan goes through all pieces together.
    inputs, targets, counts = (
        jnp.pad(a, (0, filling)).reshape(pieces, calls, chunk).swapaxes(0, 1)
        for a in (inputs, tokens, jnp.ones(length, bool))
    )

    def body(state: Any, call: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        inputs, targets, counts = call
        logits, state = model(inputs, state)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets)
        return state, jnp.sum(jnp.where(counts, losses, 0))

    _, sums = jax.lax.scan(body, model.zero_state((pieces,)), (inputs, targets, counts))
    return jnp.sum(sums) / (length * np.log(2))
