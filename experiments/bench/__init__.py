"""Measurements beside peers: `python -m experiments.bench`."""
