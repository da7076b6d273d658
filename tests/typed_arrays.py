"""Strict type checkers accept NumPy arrays and numbers where functions take them; `test_arrays` runs such calls."""

import jax
import numpy as np
from flax import nnx

from jaxnn import functional as F
from jaxnn import inspect, metrics, models, modules, train


def layers(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> list[jax.Array]:
    context, _ = F.attention(x, x, x, lengths=np.array([2]), mask=x[..., 0] > 0)
    pools = [F.max_pool(x, 2), F.avg_pool(x, 2), F.lp_pool(x, 2), F.global_max_pool(x), F.global_avg_pool(x)]
    convolutions = [F.conv(x, kernel, bias), F.true_convolution(x, kernel, bias), F.conv_transpose(x, kernel, bias)]
    adaptive = [F.adaptive_max_pool(x, 2), F.adaptive_avg_pool(x, 2)]
    others = [F.dense(x, kernel, bias), F.feature_maps(x, kernel), F.log_mel(x, 8000, past=bias), context]
    return [*pools, *convolutions, *adaptive, *others]


def recurrent(x: np.ndarray, key: jax.Array) -> None:
    lstm, gru, rnn = F.init_lstm(key, 3, 4), F.init_gru(key, 3, 4), F.init_rnn(key, 3, 4)
    state = F.lstm(lstm, x, lengths=np.array([3, 5]), mask=x[..., 0] > 0)[1]
    state = F.lstm_step(lstm, state, x[:, 0])
    F.gru(gru, x)
    F.gru_step(gru, F.gru(gru, x)[1], x[:, 0])
    F.rnn(rnn, x)
    F.rnn_step(rnn, F.rnn(rnn, x)[1], x[:, 0])
    F.mingru(F.init_mingru(key, 3, 4), x)
    F.minlstm(F.init_minlstm(key, 3, 4), x)
    F.slstm(F.init_slstm(key, 3, 4), x)
    F.lru(F.init_lru(key, 3, 4), x)
    F.conv_lstm(F.init_conv_lstm(key, 3, 4, 3), x)
    F.recurrent(F.lstm_cell(), lstm, x, resets=x[..., 0] > 0)
    F.recurrent_step(F.lstm_cell(), lstm, state, x[:, 0])
    F.recurrent_with_info(F.lstm_cell(), lstm, x)
    F.bidirectional(F.lstm, lstm, lstm, x)
    _, states = F.stack(F.lstm, [lstm], x, dropout=np.float32(0.5), key=key)
    F.stack_step(F.lstm_step, [lstm], states, x[:, 0])


def step(state: jax.Array, token: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.nn.one_hot(token, 3), state


def decoding(logits: np.ndarray, start: np.ndarray, key: jax.Array) -> list[jax.Array]:
    F.greedy(step, start, start, max_length=3)
    F.sample(step, start, start, key, max_length=3, temperature=np.float32(1), top_p=np.float32(0.9))
    F.beam_search(step, start, start, beams=2, max_length=3, length_penalty=np.float32(1))
    F.ctc_greedy(logits, np.array([3]))
    F.ctc_beam_search(logits, np.array([3]), beams=2)
    return [F.filter_logits(logits, temperature=np.float32(1), top_p=np.float32(0.9))]


def detection(boxes: np.ndarray, classes: np.ndarray, heat: np.ndarray) -> jax.Array:
    metrics.mean_average_precision([boxes], [heat], [classes], [boxes], [classes])
    F.encode_boxes(boxes, classes, (4, 4, 2), stride=4)
    return train.losses.heatmap(heat, heat)


def networks(x: np.ndarray, tokens: np.ndarray, rngs: nnx.Rngs) -> list[jax.Array]:
    pools = [modules.MaxPool(2)(x), modules.AvgPool(2)(x), modules.Flatten()(x)]
    convolutions = [modules.Conv(3, 4, 3, rngs=rngs)(x), modules.ConvTranspose(3, 4, 3, rngs=rngs)(x)]
    pictures = [
        models.LeNet((8, 8, 1), rngs=rngs)(x),
        models.LeNet5((8, 8, 1), rngs=rngs)(x),
        models.MLP([4, 2], rngs=rngs)(x),
    ]
    lstm = modules.LSTM(3, 4, rngs=rngs)
    lstm.step(lstm(x, lengths=np.array([3, 5]), return_state=True)[1], x[:, 0])
    modules.Encoder(11, 4, 6, rngs=rngs)(tokens)
    inspect.reach(lstm, x)
    return [*pools, *convolutions, *pictures, modules.Dense(3, 4, rngs=rngs)(x)]
