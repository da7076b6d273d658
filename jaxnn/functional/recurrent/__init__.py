"""Recurrent layers as pure functions: any cell, whole sequences or step by step."""

from jaxnn.functional.recurrent.cell import Activation, Blocks, Cell
from jaxnn.functional.recurrent.compose import Directions, bidirectional, stack, stack_step
from jaxnn.functional.recurrent.gru import GRUParams, GRUState, gru, gru_cell, gru_step, init_gru
from jaxnn.functional.recurrent.info import NewtonInfo, recurrent_with_info
from jaxnn.functional.recurrent.init import per_gate
from jaxnn.functional.recurrent.init_lstm import forget_bias, init_lstm
from jaxnn.functional.recurrent.lstm import LSTMNorm, LSTMParams, LSTMState, lstm, lstm_cell, lstm_step
from jaxnn.functional.recurrent.newton import Newton
from jaxnn.functional.recurrent.rnn import RNNParams, RNNState, init_rnn, rnn, rnn_cell, rnn_step
from jaxnn.functional.recurrent.run import recurrent, recurrent_step

__all__ = [
    "Activation",
    "Blocks",
    "Cell",
    "Directions",
    "GRUParams",
    "GRUState",
    "LSTMNorm",
    "LSTMParams",
    "LSTMState",
    "Newton",
    "NewtonInfo",
    "RNNParams",
    "RNNState",
    "bidirectional",
    "forget_bias",
    "gru",
    "gru_cell",
    "gru_step",
    "init_gru",
    "init_lstm",
    "init_rnn",
    "lstm",
    "lstm_cell",
    "lstm_step",
    "per_gate",
    "recurrent",
    "recurrent_step",
    "recurrent_with_info",
    "rnn",
    "rnn_cell",
    "rnn_step",
    "stack",
    "stack_step",
]
