"""The LSTM and the GRU for `persistent`: what a step does to a tile, forward and back.

The ways back are the transposes of `_along` in `kernels.lstm` and `kernels.gru`.
"""

import jax
import jax.numpy as jnp

from jaxnn.kernels import gru, lstm
from jaxnn.kernels.persistent import Persistent, logistic
from jaxnn.kernels.walk import Walk

Arrays = tuple[jax.Array, ...]


def _output(x: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    return state[:1], ()


def _lstm(x: Arrays, state: Arrays, rest: Arrays, m: Arrays) -> Arrays:
    h, c = state
    i, f, g, o = (a + b for a, b in zip(x, m, strict=True))
    c = logistic(f) * c + logistic(i) * jnp.tanh(g)
    return (logistic(o) * jnp.tanh(c)).astype(h.dtype), c


def _lstm_back(x: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    c_i, c_f, c_g, c_c, h_o, h_c, y = x
    h, c = state
    h = h + y
    c = c + h_c * h
    return (c_i * c, c_f * c, c_g * c, h_o * h), (c_c * c,)


LSTM = Persistent(
    lstm.LSTM,
    gates=4,
    constants=lambda weights: (),
    forward=Walk(4, 1, _output, _lstm, writes_state=True),
    coefficients=lambda s: (s.c_i, s.c_f, s.c_g, s.c_c, s.h_o, s.h_c),
    count=6,
    back=Walk(1, 4, _lstm_back, lambda x, state, rest, m: (m[0], *rest), writes_state=False),
    values=4,
    outside=lambda written: jnp.concatenate(written, axis=-1),
)


def _gru(x: Arrays, state: Arrays, rest: Arrays, m: Arrays) -> Arrays:
    (h,), (x_r, x_z, x_n, b_hn) = state, x
    r, z = logistic(x_r + m[0]), logistic(x_z + m[1])
    n = jnp.tanh(x_n + r * (m[2] + b_hn))
    wide = h.astype(n.dtype)
    return ((wide + (1 - z) * (n - wide)).astype(h.dtype),)


def _gru_back(x: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    by_r, by_z, by_x, by_m, by_h, y = x
    h = state[0] + y
    return (by_r * h, by_z * h, by_m * h, by_x * h), (by_h * h,)


GRU = Persistent(
    gru.RESET_AFTER,
    gates=3,
    constants=lambda weights: (weights.b_hn,),
    forward=Walk(3, 1, _output, _gru, writes_state=True),
    coefficients=lambda s: (s.by_r, s.by_z, s.by_x, s.by_m, s.by_h),
    count=5,
    back=Walk(1, 3, _gru_back, lambda x, state, rest, m: (m[0] + rest[0],), writes_state=False),
    values=4,
    outside=lambda written: (jnp.concatenate(written[:2], axis=-1), written[3], written[2]),
)
