"""Recurrent modules: layers over sequences, cells for streaming, and an encoder and decoder of tokens."""

from jaxnn.modules.recurrent.cells import GRUCell, LSTMCell, RNNCell
from jaxnn.modules.recurrent.decoder import Decoder
from jaxnn.modules.recurrent.encoder import Encoded, Encoder
from jaxnn.modules.recurrent.layers import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "Decoder", "Encoded", "Encoder", "GRUCell", "LSTMCell", "RNNCell"]
