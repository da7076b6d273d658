"""Judging what a model makes, on the host: NumPy arrays and plain Python in, numbers out."""

from jaxnn.metrics.transcripts import character_error_rate, edit_distance, word_error_rate

__all__ = ["character_error_rate", "edit_distance", "word_error_rate"]
