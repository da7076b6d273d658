"""Data that only experiments need, and the baselines that they are compared with."""
