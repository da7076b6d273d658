"""Out-of-memory errors in one sentence; JAX raises several kinds, with long texts."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from jaxnn.inspect.memory import readable


class OutOfMemoryError(MemoryError):
    """Training needs more memory than the device or the host has; the cause is JAX's error."""


def shortage(error: BaseException | None) -> str:
    """Describes the missing memory; empty if an error of JAX or NumPy has another cause.

    Example:
        >>> import jax
        >>> from jaxnn.train.devices.shortage import shortage
        >>> shortage(jax.errors.JaxRuntimeError("INTERNAL: x: Out of memory allocating 3221225472 bytes."))
        'the memory is not enough: 3.0 GiB more could not be had'
        >>> shortage(ValueError("another one"))
        ''
    """
    if isinstance(error, OutOfMemoryError) and error.__cause__ is not None:
        return shortage(error.__cause__)
    text = str(error).strip()
    if isinstance(error, jax.errors.JaxRuntimeError):
        # Not every text starts with it: "INTERNAL: Error dispatching computation: ... Out of memory allocating ...".
        if not re.search("RESOURCE_EXHAUSTED|out of memory", text, re.IGNORECASE):
            return ""
    elif not isinstance(error, MemoryError):
        return ""
    if size := re.search(r"allocat\w* (\d+) bytes", text):
        return f"the memory is not enough: {readable(int(size[1]))} more could not be had"
    first = text.splitlines()[0] if text else ""
    return f"the memory is not enough ({first[:200]})" if first else "the memory is not enough"


@contextmanager
def tell_of_shortage(advice: str) -> Iterator[None]:
    """Turns out-of-memory errors into an `OutOfMemoryError` with advice; decorates functions too."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if isinstance(error, OutOfMemoryError) or not (what := shortage(error)):
            raise
        raise OutOfMemoryError(f"{what}; {advice}.") from error
