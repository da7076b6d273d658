"""Composed layers: bidirectional layers and stacks."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxnn.functional import arguments
from jaxnn.functional.bound import Bound
from jaxnn.functional.exportable import exportable
from jaxnn.functional.programs import traced
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.cell import Cell
from jaxnn.functional.recurrent.run import recurrent, recurrent_step
from jaxnn.functional.sharding import like_leading
from jaxnn.shapes import shown

T = TypeVar("T")
Layer = Callable[..., tuple[jax.Array, Any]]


def _layer_of(layer: Layer | Cell, options: dict[str, Any]) -> Layer:
    """Returns a layer, made from a cell if necessary; raises if it is none, or has no such options."""
    if isinstance(layer, Cell):
        if unknown := options.keys() - inspect.signature(recurrent).parameters.keys():
            raise ValueError(
                f"options: expected those of recurrent for a Cell, got {', '.join(sorted(unknown))}; bind the cell's "
                "own: lstm_cell(activation=...)."
            )
        return Bound(recurrent, layer)
    _check_call("layer", layer, "(params, x, state)", other="state")
    return layer


def _check_call(name: str, function: Any, form: str, other: str) -> None:
    """Raises unless a function takes three arguments, the second of them not named `other`."""
    try:
        names = list(inspect.signature(function).bind_partial(None, None, None).arguments)
    except TypeError:  # it takes fewer
        names = ["", other]
    except ValueError:  # Python does not know its arguments
        names = []
    if names[1:2] == [other]:
        got = getattr(function, "__name__", type(function).__name__)
        raise ValueError(f"{name}: expected a function {form} or a Cell, for example lstm_cell(), got {got}.")


@exportable
@shown
class Directions(NamedTuple, Generic[T]):
    """The parameters or the states of the two directions of a bidirectional layer.

    Attributes:
        forward: Those of the layer that runs from the first step to the last.
        backward: Those of the layer that runs from the last step to the first.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> k0, k1 = jax.random.split(jax.random.key(0))
        >>> both = F.Directions(F.init_gru(k0, 3, 5), F.init_gru(k1, 3, 5))
        >>> F.stack(F.gru, [both], jnp.ones((2, 7, 3)))[0].shape
        (2, 7, 10)
    """

    forward: T
    backward: T


def bidirectional(
    layer: Layer | Cell,
    forward_params: Any,
    backward_params: Any,
    x: jax.typing.ArrayLike,
    state: tuple[Any, Any] | None = None,
    **options: Any,
) -> tuple[jax.Array, Directions[Any]]:
    """Runs a layer over a sequence in both directions and concatenates the outputs.

    Args:
        layer: `rnn`, `gru`, `lstm`, a function like them, or any `Cell`.
        forward_params: Parameters of the layer that runs from the first step to the last.
        backward_params: Parameters of the layer that runs from the last step (within its length) to the first.
        x: `(*batch, time, features)`.
        state: The initial states `(forward, backward)`; by default those that the layer starts from.
        **options: Options of `layer` (`lengths`, `resets`, ...), the same for both directions; not `reverse`.

    Returns:
        The outputs `(*batch, time, 2 * output)`, forward first (concatenated array by array if a cell has several), and
        the final states: forward after the last step, backward after step 0.

    Raises:
        ValueError: If `reverse` is given, or as `layer` raises.

    References:
        Schuster, Paliwal: Bidirectional recurrent neural networks, 1997.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> forward, backward = (F.init_gru(k, 3, 5) for k in jax.random.split(jax.random.key(0)))
        >>> y, state = F.bidirectional(F.gru, forward, backward, jnp.ones((2, 7, 3)))
        >>> y.shape, state.backward.h.shape
        ((2, 7, 10), (2, 5))
    """
    if "reverse" in options:
        raise ValueError(
            f"reverse: expected none, as a bidirectional layer runs both ways, got {options['reverse']!r}; omit it."
        )
    named = hasattr(state, "_fields") and not isinstance(state, Directions)  # the state of one direction
    if state is not None and (named or not isinstance(state, tuple | list) or len(state) != 2):
        raise ValueError(f"state: expected a pair (forward, backward), got {type(state).__name__}; write that of both.")
    layer = _layer_of(layer, options)
    of_forward, of_backward = (None, None) if state is None else state
    y_forward, forward = layer(forward_params, x, of_forward, reverse=False, **options)
    y_backward, backward = layer(backward_params, x, of_backward, reverse=True, **options)
    y = jax.tree.map(lambda *sides: jnp.concatenate(sides, axis=-1), y_forward, y_backward)
    return y, Directions(forward, backward)


def stack(
    layer: Layer | Cell,
    params_per_layer: Sequence[Any],
    x: jax.typing.ArrayLike,
    states: Sequence[Any] | None = None,
    *,
    dropout: jax.typing.ArrayLike = 0.0,
    key: jax.Array | None = None,
    **options: Any,
) -> tuple[jax.Array, tuple[Any, ...]]:
    """Runs a stack of layers: the outputs of each are the inputs of the next.

    Args:
        layer: `rnn`, `gru`, `lstm`, a function like them, or any `Cell`.
        params_per_layer: The parameters of each layer, lowest first. A layer whose parameters are a
            `Directions` is run in both directions.
        x: `(*batch, time, features)`.
        states: The initial state of each layer; zeros by default.
        dropout: Rate of dropout on the outputs of every layer *but the last*, drawn separately for each element and
            step. The elements that are kept are divided by `1 - dropout`. May be traced; a traced 1 drops everything.
        key: The random key for dropout.
        **options: Options of `layer` (`lengths`, `resets`, ...), the same for all layers.

    Returns:
        The outputs of the last layer and the final states of all, lowest first.

    Raises:
        ValueError: If there are no parameters, the number of states differs from the number of layers, dropout is not
            in [0, 1) or lacks a key, or as `layer` raises.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> k0, k1, k2 = jax.random.split(jax.random.key(0), 3)
        >>> params = [F.init_lstm(k0, 3, 5), F.init_lstm(k1, 5, 4)]
        >>> y, states = F.stack(F.lstm, params, jnp.ones((2, 7, 3)), dropout=0.5, key=k2)
        >>> y.shape, [s.h.shape for s in states]
        ((2, 7, 4), [(2, 5), (2, 4)])
    """
    layer = _layer_of(layer, options)
    starts = _matched(params_per_layer, states)
    drops = check.rate("dropout", dropout)
    if drops and key is None:
        raise ValueError(
            f"key: expected a random key for dropout={dropout}, got None; pass one, or dropout=0.0 when not training."
        )
    if drops:
        arguments.random_key(key)
    outputs: Any = x
    finals = []
    for depth, (params, start) in enumerate(zip(params_per_layer, starts, strict=True)):
        if depth > 0 and drops and key is not None:
            outputs = _drop(outputs, dropout, jax.random.fold_in(key, depth))
        if isinstance(params, Directions):
            outputs, final = bidirectional(layer, params.forward, params.backward, outputs, start, **options)
        else:
            outputs, final = layer(params, outputs, start, **options)
        finals.append(final)
    return outputs, tuple(finals)


def stack_step(
    step: Callable[..., Any] | Cell,
    params_per_layer: Sequence[Any],
    states: Sequence[Any],
    x: jax.typing.ArrayLike,
    **options: Any,
) -> tuple[Any, ...]:
    """Runs one step of a stack; a loop of these steps equals `stack` without dropout.

    Args:
        step: Any `Cell`, or `rnn_step`, `gru_step`, `lstm_step` or a function like them, whose output is the `h` of its
            state.
        params_per_layer: The parameters of each layer, lowest first.
        states: The state of each layer.
        x: `(*batch, features)`.
        **options: Options of the function `step`, the same for all layers. A `Cell` has its options bound.

    Returns:
        The new states, lowest first. The output of the stack is `states[-1].h`, or
        `cell.output(params_per_layer[-1], states[-1])`.

    Raises:
        ValueError: If a layer is bidirectional, the number of states differs from the number of layers, options are
            given for a `Cell`, or as `step` raises.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> k0, k1 = jax.random.split(jax.random.key(0))
        >>> params = [F.init_gru(k0, 3, 5), F.init_gru(k1, 5, 4)]
        >>> states = [p.zero_state((2,), jnp.float32) for p in params]
        >>> states = F.stack_step(F.gru_step, params, states, jnp.ones((2, 3)))
        >>> states[-1].h.shape
        (2, 4)
    """
    if not isinstance(step, Cell):
        _check_call("step", step, "(params, state, x)", other="x")
    elif options:
        raise ValueError(
            f"options: expected none for a Cell, got {', '.join(options)}; bind them: lstm_cell(activation=...)."
        )
    news = []
    for params, state in zip(params_per_layer, _matched(params_per_layer, states), strict=True):
        if isinstance(params, Directions):
            raise ValueError(
                "params_per_layer: expected layers that run step by step, got a bidirectional one; run the whole "
                "sequence with stack."
            )
        if isinstance(step, Cell):
            news.append(recurrent_step(step, params, state, x))
            x = step.output(params, news[-1])
        else:
            news.append(step(params, state, x, **options))
            x = news[-1].h
    return tuple(news)


def _matched(params_per_layer: Sequence[Any], states: Sequence[Any] | None) -> Sequence[Any]:
    if not isinstance(params_per_layer, Sequence) or hasattr(params_per_layer, "_fields"):
        raise ValueError(
            "params_per_layer: expected a list with the parameters of each layer, got "
            f"{type(params_per_layer).__name__}; put them into a list, also those of one layer."
        )
    if not params_per_layer:
        raise ValueError("params_per_layer: expected at least one layer, got none")
    if states is None:
        return [None] * len(params_per_layer)
    if hasattr(states, "_fields") or isinstance(states, Mapping):
        raise ValueError(
            f"states: expected a tuple with the state of each layer, got {type(states).__name__}; of one layer write "
            "(state,)."
        )
    if len(states) != len(params_per_layer):
        raise ValueError(f"states: expected one for each of {len(params_per_layer)} layers, got {len(states)}")
    return states


def _drop(x: jax.Array, rate: jax.typing.ArrayLike, key: jax.Array) -> jax.Array:
    keep = 1 - jnp.asarray(rate, jnp.float32)
    kept = like_leading(x, jax.random.bernoulli(key, keep, x.shape))
    if traced(rate):  # a traced 1 keeps nothing: 0 / 0 would reach the gradients
        keep = jnp.where(keep > 0, keep, jnp.ones_like(keep))
    return jnp.where(kept, x / jnp.broadcast_to(keep, x.shape).astype(x.dtype), jnp.zeros_like(x))
