"""The pure core: arrays in, arrays out; no Flax, no state. Channels are the last axis; time comes before features."""

from jaxnn import distribution as distribution
from jaxnn.functional.adaptive import adaptive_avg_pool, adaptive_max_pool
from jaxnn.functional.attention import attention
from jaxnn.functional.boxes import BoxMaps, BoxTargets, Detections, decode_boxes, encode_boxes
from jaxnn.functional.conv import conv, conv_transpose, true_convolution
from jaxnn.functional.decoding import Generated, Labelling, beam_search, ctc_beam_search, ctc_greedy, greedy, sample
from jaxnn.functional.dense import dense
from jaxnn.functional.feature_maps import feature_maps
from jaxnn.functional.filtering import filter_logits
from jaxnn.functional.log_mel import log_mel, mel_filters
from jaxnn.functional.policies import convolutions_saveable
from jaxnn.functional.pool import avg_pool, global_avg_pool, global_max_pool, lp_pool, max_pool
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
    "BoxMaps",
    "BoxTargets",
    "Cell",
    "ConvLSTMParams",
    "ConvLSTMState",
    "Detections",
    "Directions",
    "GRUParams",
    "GRUState",
    "Generated",
    "LRUParams",
    "LRUState",
    "LSTMNorm",
    "LSTMParams",
    "LSTMState",
    "Labelling",
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
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "attention",
    "avg_pool",
    "beam_search",
    "bidirectional",
    "chrono",
    "conv",
    "conv_lstm",
    "conv_lstm_cell",
    "conv_lstm_step",
    "conv_transpose",
    "convolutions_saveable",
    "ctc_beam_search",
    "ctc_greedy",
    "decode_boxes",
    "dense",
    "encode_boxes",
    "feature_maps",
    "filter_logits",
    "forget_bias",
    "global_avg_pool",
    "global_max_pool",
    "greedy",
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
    "log_mel",
    "lp_pool",
    "lru",
    "lru_cell",
    "lru_step",
    "lstm",
    "lstm_cell",
    "lstm_step",
    "max_pool",
    "mel_filters",
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
    "sample",
    "slstm",
    "slstm_cell",
    "slstm_step",
    "stack",
    "stack_step",
    "true_convolution",
]
