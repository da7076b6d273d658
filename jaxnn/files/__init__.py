"""Atomic replacement of files, arrays in files, locks between processes, and output that cannot fail."""

from jaxnn.files.lock import locked
from jaxnn.files.output import steady_output
from jaxnn.files.replace import replacing

__all__ = [
    "locked",
    "replacing",
    "steady_output",
]
