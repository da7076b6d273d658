"""Weights and programs that leave the house and come back, whatever made them."""

from jaxnn.interop.program import Program, Step, export_program, load_program
from jaxnn.interop.weights import load_about, load_weights, save_weights

__all__ = [
    "Program",
    "Step",
    "export_program",
    "load_about",
    "load_program",
    "load_weights",
    "save_weights",
]
