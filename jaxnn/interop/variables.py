"""Which variables of a Flax module belong to its weights."""

from flax import nnx

PASSING = (nnx.RngState, nnx.Intermediate, nnx.Perturbation, nnx.Cache)
"""Kinds of variables that calls make and use up; all others, of a person's own kinds too, are weights."""
