"""Truncated back-propagation through time: a language model on parallel streams, its state carried along."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.data.text import Chunk, chunk_at
from jaxnn import train
from jaxnn.models import LanguageModel
from jaxnn.train.step.compiling import Jitted
from jaxnn.train.step.step import LossFn


class Carried(nnx.Variable):
    """What a module carries from one call to the next; training keeps it beside the parameters."""


class Streams(nnx.Module):
    """A language model that reads parallel streams: each call goes on where the last one ended, its gradient does not.

    Attributes:
      model: the language model.
      carried: the arrays of its state, `(streams, ...)`.
    """

    def __init__(self, model: LanguageModel, streams: int) -> None:
        self.model = model
        self.carried = nnx.data([Carried(array) for array in jax.tree.leaves(model.zero_state((streams,)))])

    def __call__(self, tokens: jax.Array, fresh: jax.Array) -> jax.Array:
        """`(streams, time)` -> logits `(streams, time, vocabulary)`; `fresh` streams start from zero."""
        start = self.model.zero_state(fresh.shape)
        before = [jnp.where(fresh[:, None], 0, jax.lax.stop_gradient(array[...])) for array in self.carried]
        logits, after = self.model(tokens, jax.tree.unflatten(jax.tree.structure(start), before))
        for kept, array in zip(self.carried, jax.tree.leaves(after), strict=True):
            kept[...] = array
        return logits


def next_token_loss(streams: Streams, chunk: Chunk, key: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The cross-entropy of every next token in nats, a mean for each stream; a `train.step.LossFn`."""
    logits = streams(chunk.tokens[:, :-1], chunk.fresh)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), chunk.tokens[:, 1:])
    return losses.mean(-1), {}


def make_segment(*, streams: int, chunk: int, restart: float = 0.0, loss_fn: LossFn = next_token_loss) -> Jitted:
    """Makes `(state, text, rates) -> (state, metrics)`: as many steps as there are rates, in one compiled scan.

    Where a step reads follows from its number, so segments follow one another seamlessly. The state is donated.

    Args:
      streams: parallel streams.
      chunk: characters of each stream in a step, so how far gradients go back.
      restart: as for `text.chunk_at`.
      loss_fn: as for `train.make_step`.

    Returns:
      The segment. `rates` is the learning rate of each step, `(steps,)`; metrics are `(steps,)`.
    """
    step = train.make_step(loss_fn)

    @partial(train.jit, donate_argnums=0)
    def segment(state: train.TrainState, text: jax.Array, rates: jax.Array) -> tuple[train.TrainState, Any]:
        def body(state: train.TrainState, rate: jax.Array) -> tuple[train.TrainState, Any]:
            hyperparams = {**state.opt_state.hyperparams, "learning_rate": rate}
            state = dataclasses.replace(state, opt_state=state.opt_state._replace(hyperparams=hyperparams))
            batch = chunk_at(text, state.step, state.key, streams=streams, chunk=chunk, restart=restart)
            return step(state, batch)

        return jax.lax.scan(body, state, rates)

    return segment


@partial(jax.jit, static_argnames=("pieces", "chunk"))
def bits_per_character(
    model: LanguageModel, text: jax.Array, before: jax.Array, *, pieces: int = 1, chunk: int = 256
) -> jax.Array:
    r"""The mean of $-\log_2 p(x_t \mid x_1 \dots x_{t-1})$ over every character of a text.

    Args:
      model: the language model, in evaluation mode.
      text: int32 `(characters,)`; each is predicted, and counts once.
      before: int32 `()`, the character before the first.
      pieces: 1 reads the text in one go, the state carried from its first character to its last: that is the number to
        report. More read as many pieces side by side, which is faster and a little pessimistic: each starts unread.
      chunk: characters of each piece read by one call; the result is the same for each choice.
    """
    characters = text.shape[0]
    calls = -(-characters // (pieces * chunk))
    filling = pieces * calls * chunk - characters
    inputs = jnp.concatenate([before[None].astype(text.dtype), text[:-1]])
    # (calls, pieces, chunk), so that a scan goes through all pieces together.
    inputs, targets, counts = (
        jnp.pad(a, (0, filling)).reshape(pieces, calls, chunk).swapaxes(0, 1)
        for a in (inputs, text, jnp.ones(characters, bool))
    )

    def body(state: Any, call: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        inputs, targets, counts = call
        logits, state = model(inputs, state)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets)
        return state, jnp.sum(jnp.where(counts, losses, 0))

    _, sums = jax.lax.scan(body, model.zero_state((pieces,)), (inputs, targets, counts))
    return jnp.sum(sums) / (characters * np.log(2))
