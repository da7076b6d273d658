"""Occlusion: the contribution of each token of a text to the answer of a classifier."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def occlusion(
    predict: Callable[[jax.Array, jax.Array], jax.Array],
    tokens: jax.typing.ArrayLike,
    lengths: jax.typing.ArrayLike,
    *,
    replacement: int,
) -> jax.Array:
    r"""Measures how much each token of a text contributes to the class that a model predicts.

    .. math:: d_t = \log p(\hat y \mid x) - \log p(\hat y \mid x \text{ with } x_t \text{ replaced}), \qquad
        \hat y = \arg\max_y p(y \mid x)

    A positive contribution supports the predicted class, a negative one another class.

    Args:
        predict: Tokens `(n, time)` and lengths `(n,)` to logits `(n, classes)`, for any `n`.
        tokens: Integers `(texts, time)`.
        lengths: Number of tokens of each text that count, `(texts,)`.
        replacement: The token that replaces each token in turn, for example that of unknown words.

    Returns:
        The contributions, float32 `(texts, time)`, zero past a text's length.

    Raises:
        ValueError: If the tokens have other axes.

    References:
        Zeiler and Fergus, Visualizing and understanding convolutional networks, 2014 (occlusion). Li, Monroe and
        Jurafsky, Understanding neural networks through representation erasure, 2016 (for words).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import inspect
        >>> def predict(tokens, lengths):  # class 1 where there is a 7
        ...     return jax.nn.one_hot((tokens == 7).sum(-1), 2)
        >>> inspect.occlusion(predict, jnp.array([[3, 7, 0]]), jnp.array([2]), replacement=1)
        Array([[0., 1., 0.]], dtype=float32)
    """
    t, n = jnp.asarray(tokens), jnp.asarray(lengths)
    if t.ndim != 2:
        raise ValueError(f"tokens: expected (texts, time), got shape {t.shape}")
    texts, time = t.shape
    without = jnp.where(jnp.eye(time, dtype=bool)[None], jnp.asarray(replacement, t.dtype), t[:, None])
    whole = jax.nn.log_softmax(predict(t, n).astype(jnp.float32))
    less = jax.nn.log_softmax(predict(without.reshape(texts * time, time), jnp.repeat(n, time)).astype(jnp.float32))
    answer = jnp.argmax(whole, axis=-1)[:, None]
    left = jnp.take_along_axis(less.reshape(texts, time, -1), answer[..., None], axis=-1)[..., 0]
    drop = jnp.take_along_axis(whole, answer, axis=-1) - left
    return jnp.where(jnp.arange(time)[None] < n[:, None], drop, 0)
