"""The pure core: arrays in, arrays out; no Flax, no state. Channels stand last, time before features."""

from jaxnn.functional.adaptive import adaptive_avg_pool, adaptive_max_pool
from jaxnn.functional.attention import attention
from jaxnn.functional.conv import conv, conv_transpose, true_convolution
from jaxnn.functional.decoding import Generated, beam_search, greedy, sample
from jaxnn.functional.dense import dense
from jaxnn.functional.filtering import filter_logits
from jaxnn.functional.policies import convolutions_saveable
from jaxnn.functional.pool import avg_pool, global_avg_pool, global_max_pool, lp_pool, max_pool
from jaxnn.functional.recurrent import (
    Activation,
    Directions,
    GRUParams,
    GRUState,
    LSTMNorm,
    LSTMParams,
    LSTMState,
    RNNParams,
    RNNState,
    bidirectional,
    forget_bias,
    gru,
    gru_step,
    init_gru,
    init_lstm,
    init_rnn,
    lstm,
    lstm_step,
    per_gate,
    rnn,
    rnn_step,
    stack,
    stack_step,
)
from jaxnn.functional.slide import feature_maps

__all__ = [
    "Activation",
    "Directions",
    "GRUParams",
    "GRUState",
    "Generated",
    "LSTMNorm",
    "LSTMParams",
    "LSTMState",
    "RNNParams",
    "RNNState",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "attention",
    "avg_pool",
    "beam_search",
    "bidirectional",
    "conv",
    "conv_transpose",
    "convolutions_saveable",
    "dense",
    "feature_maps",
    "filter_logits",
    "forget_bias",
    "global_avg_pool",
    "global_max_pool",
    "greedy",
    "gru",
    "gru_step",
    "init_gru",
    "init_lstm",
    "init_rnn",
    "lp_pool",
    "lstm",
    "lstm_step",
    "max_pool",
    "per_gate",
    "rnn",
    "rnn_step",
    "sample",
    "stack",
    "stack_step",
    "true_convolution",
]
