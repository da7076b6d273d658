"""Recurrent modules: layers over sequences, cells for streaming, and an encoder and decoder of tokens."""
