"""Weights that leave a program and come back, whatever made them."""

from jaxnn.interop.weights import load_about, load_weights, save_weights

__all__ = [
    "load_about",
    "load_weights",
    "save_weights",
]
