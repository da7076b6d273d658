"""Recurrent layers as pure functions: any cell, whole sequences or step by step."""

from jaxnn.functional.recurrent.cell import Activation, Blocks, Cell
from jaxnn.functional.recurrent.chrono import chrono
from jaxnn.functional.recurrent.compose import Directions, bidirectional, stack, stack_step
from jaxnn.functional.recurrent.conv_lstm import conv_lstm, conv_lstm_cell, conv_lstm_step
from jaxnn.functional.recurrent.conv_lstm_params import ConvLSTMParams, ConvLSTMState, init_conv_lstm
from jaxnn.functional.recurrent.gru import GRUParams, GRUState, gru, gru_cell, gru_step, init_gru
from jaxnn.functional.recurrent.info import NewtonInfo, recurrent_with_info
from jaxnn.functional.recurrent.init import per_gate
from jaxnn.functional.recurrent.init_lstm import forget_bias, init_lstm
from jaxnn.functional.recurrent.lru import LRUParams, LRUState, init_lru, lru, lru_cell, lru_step
from jaxnn.functional.recurrent.lstm import LSTMNorm, LSTMParams, LSTMState, lstm, lstm_cell, lstm_step
from jaxnn.functional.recurrent.mingru import (
    MinGRUParams,
    MinGRUState,
    init_mingru,
    mingru,
    mingru_cell,
    mingru_step,
)
from jaxnn.functional.recurrent.minlstm import (
    MinLSTMParams,
    MinLSTMState,
    init_minlstm,
    minlstm,
    minlstm_cell,
    minlstm_step,
)
from jaxnn.functional.recurrent.newton import Newton
from jaxnn.functional.recurrent.rnn import RNNParams, RNNState, init_rnn, rnn, rnn_cell, rnn_step
from jaxnn.functional.recurrent.run import recurrent, recurrent_step
from jaxnn.functional.recurrent.slstm import SLSTMParams, SLSTMState, init_slstm, slstm, slstm_cell, slstm_step

__all__ = [
    "Activation",
    "Blocks",
    "Cell",
    "ConvLSTMParams",
    "ConvLSTMState",
    "Directions",
    "GRUParams",
    "GRUState",
    "LRUParams",
    "LRUState",
    "LSTMNorm",
    "LSTMParams",
    "LSTMState",
    "MinGRUParams",
    "MinGRUState",
    "MinLSTMParams",
    "MinLSTMState",
    "Newton",
    "NewtonInfo",
    "RNNParams",
    "RNNState",
    "SLSTMParams",
    "SLSTMState",
    "bidirectional",
    "chrono",
    "conv_lstm",
    "conv_lstm_cell",
    "conv_lstm_step",
    "forget_bias",
    "gru",
    "gru_cell",
    "gru_step",
    "init_conv_lstm",
    "init_gru",
    "init_lru",
    "init_lstm",
    "init_mingru",
    "init_minlstm",
    "init_rnn",
    "init_slstm",
    "lru",
    "lru_cell",
    "lru_step",
    "lstm",
    "lstm_cell",
    "lstm_step",
    "mingru",
    "mingru_cell",
    "mingru_step",
    "minlstm",
    "minlstm_cell",
    "minlstm_step",
    "per_gate",
    "recurrent",
    "recurrent_step",
    "recurrent_with_info",
    "rnn",
    "rnn_cell",
    "rnn_step",
    "slstm",
    "slstm_cell",
    "slstm_step",
    "stack",
    "stack_step",
]
