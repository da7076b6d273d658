"""Recurrent modules: layers over sequences, cells for streaming, and an encoder and decoder of tokens."""

from jaxnn.modules.recurrent.cell import Cell
from jaxnn.modules.recurrent.classic import GRUCell, LSTMCell, RNNCell
from jaxnn.modules.recurrent.decoder import Decoder
from jaxnn.modules.recurrent.encoder import Encoded, Encoder
from jaxnn.modules.recurrent.layers import GRU, LSTM, RNN
from jaxnn.modules.recurrent.stack import Recurrent

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "Decoder",
    "Encoded",
    "Encoder",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
]
