"""Files that are replaced whole, arrays in files, locks between processes, and output that cannot fail."""

from jaxnn.files.lock import locked
from jaxnn.files.output import steady_output
from jaxnn.files.replace import replacing
from jaxnn.files.tensors import names, read_about, read_tensors, shown, write_tensors

__all__ = [
    "locked",
    "names",
    "read_about",
    "read_tensors",
    "replacing",
    "shown",
    "steady_output",
    "write_tensors",
]
