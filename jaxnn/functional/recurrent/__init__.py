"""Recurrent layers as pure functions: any cell, whole sequences or step by step."""
