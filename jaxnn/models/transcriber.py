"""A recurrent network that computes the logits of labels for each frame."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.modules import LSTM, Dense
from jaxnn.modules.names import explained


@explained
class Transcriber(nnx.Module):
    """LSTM layers over frames, and a dense layer to the logits of labels for each frame; for `train.losses.ctc`.

    Maps `(*batch, time, in_features)` to logits `(*batch, time, classes)`.

    Args:
        in_features: Number of values of a frame.
        classes: Number of labels, the blank included.
        hidden: Number of memory cells of each layer and direction.
        layers: Number of LSTM layers.
        bidirectional: Whether every layer runs in both directions. If not, the network can stream: pass the states of
            one chunk to the next.
        dropout: Rate of dropout between layers and on the input of the dense layer.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams; parameters come from the stream `params`, dropout from `dropout`.

    Raises:
        ValueError: If a size or `dropout` is out of range.

    References:
        Graves, Mohamed and Hinton, Speech recognition with deep recurrent neural networks, ICASSP 2013.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models
        >>> net = models.Transcriber(40, 16, bidirectional=False, rngs=nnx.Rngs(0))
        >>> logits, states = net(jnp.ones((5, 90, 40)), lengths=jnp.full(5, 90), return_state=True)
        >>> logits.shape, net(jnp.ones((5, 10, 40)), state=states).shape
        ((5, 90, 16), (5, 10, 16))
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        hidden: int = 128,
        layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.lstm = LSTM(in_features, hidden, layers=layers, bidirectional=bidirectional, dropout=dropout, **options)
        self.drop = nnx.Dropout(dropout, rngs=rngs if dropout > 0 else None)
        self.dense = Dense(self.lstm.out_features, classes, **options)

    def __call__(
        self,
        x: jax.typing.ArrayLike,
        *,
        lengths: jax.typing.ArrayLike | None = None,
        state: Sequence[Any] | None = None,
        return_state: bool = False,
    ) -> Any:
        """Computes the logits of each frame.

        Args:
            x: `(*batch, time, in_features)`.
            lengths: Number of frames of each sequence that count.
            state: The state of each layer before the first frame; zeros by default.
            return_state: Whether to return the states after the last frame too.

        Returns:
            Logits `(*batch, time, classes)`, and the states with `return_state`.
        """
        y, states = self.lstm(x, lengths=lengths, state=state, return_state=True)
        logits = self.dense(self.drop(y))
        return (logits, states) if return_state else logits
