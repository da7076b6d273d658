"""Weights and programs as files, and weights from and to PyTorch, Keras and Flax.

`torch`, `keras` and `flax` hold the layouts of single layers, for parameters without modules: `interop.torch.lstm.read`
makes the parameters that `functional.lstm` takes. PyTorch and Keras are not imported.
"""

from jaxnn.interop import flax, keras, torch
from jaxnn.interop.flax import from_flax, to_flax
from jaxnn.interop.folder import load_folder, save_folder
from jaxnn.interop.keras import from_keras, to_keras
from jaxnn.interop.layout import Layout
from jaxnn.interop.program import Program, Step, export_program, load_program
from jaxnn.interop.report import Report, Row
from jaxnn.interop.torch import from_torch, to_torch
from jaxnn.interop.weights import load_about, load_weights, save_weights

__all__ = [
    "Layout",
    "Program",
    "Report",
    "Row",
    "Step",
    "export_program",
    "flax",
    "from_flax",
    "from_keras",
    "from_torch",
    "keras",
    "load_about",
    "load_folder",
    "load_program",
    "load_weights",
    "save_folder",
    "save_weights",
    "to_flax",
    "to_keras",
    "to_torch",
    "torch",
]
