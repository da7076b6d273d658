"""Files that are replaced whole, and locks between processes."""

from jaxnn.files.lock import locked
from jaxnn.files.replace import replacing

__all__ = [
    "locked",
    "replacing",
]
