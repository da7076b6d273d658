"""Recurrent layers as pure functions: simple RNN, GRU and LSTM, whole sequences or step by step."""

from jaxnn.functional.recurrent.cells import Activation, gru_step, lstm_step, rnn_step
from jaxnn.functional.recurrent.compose import Directions, bidirectional, stack, stack_step
from jaxnn.functional.recurrent.init import forget_bias, init_gru, init_lstm, init_rnn, per_gate
from jaxnn.functional.recurrent.layers import gru, lstm, rnn
from jaxnn.functional.recurrent.params import GRUParams, GRUState, LSTMNorm, LSTMParams, LSTMState, RNNParams, RNNState

__all__ = [
    "Activation",
    "Directions",
    "GRUParams",
    "GRUState",
    "LSTMNorm",
    "LSTMParams",
    "LSTMState",
    "RNNParams",
    "RNNState",
    "bidirectional",
    "forget_bias",
    "gru",
    "gru_step",
    "init_gru",
    "init_lstm",
    "init_rnn",
    "lstm",
    "lstm_step",
    "per_gate",
    "rnn",
    "rnn_step",
    "stack",
    "stack_step",
]
