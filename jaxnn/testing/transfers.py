"""Detects reads of device arrays by the host.

On GPU and TPU `jax.transfer_guard` stops implicit transfers in both directions. On CPU it allows reads, because host
and device share memory. But a training loop that reads its loss in every step stalls an accelerator, and the tests that
should detect this run on CPU. So this module patches the methods of the array type by which Python reads an array.
"""

import collections
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# How Python code reads an array. `__repr__` and `__format__` serve print and f-strings.
_READS = (
    *("__bool__", "__complex__", "__float__", "__hex__", "__index__", "__int__", "__oct__"),
    *("__format__", "__repr__", "__str__"),
    *("__array__", "__dlpack__", "__reduce__", "item", "tobytes", "tolist"),
)
# NumPy's own conversions find a CPU array's memory without asking the array for `__array__`.
_CONVERSIONS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")


@contextlib.contextmanager
def count_host_transfers() -> Iterator[collections.Counter[str]]:
    """Counts how often Python code in this thread reads a JAX array, by kind of read.

    Counted on every device: `float`, `int`, `bool` and conditions, `.item()`, `.tolist()`, printing and f-strings,
    pickling, `np.asarray` and similar functions, and `jax.device_get`, if called by these names. `jax.device_get`
    counts as "explicit", once for each array. Not counted on CPU: C code that reads the memory by the buffer protocol,
    as in `memoryview(x)`, `np.exp(x)` and `a[:] = x`. Callbacks from a compiled program (`jax.debug.print`) are part of
    the program; `compiled_ops` counts those.

    Yields:
        Counter of reads; it fills as the block runs.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import testing
        >>> loss = jnp.float32(0.5)
        >>> with testing.count_host_transfers() as reads:
        ...     for _ in range(3):
        ...         line = f"loss {loss:.3f}"
        >>> reads
        Counter({'__format__': 3})
    """
    reads: collections.Counter[str] = collections.Counter()

    def count(way: str, array: Any) -> None:
        reads[way] += 1

    with _watched(count):
        yield reads


@contextlib.contextmanager
def forbid_host_transfers() -> Iterator[None]:
    """Forbids implicit transfers of arrays between host and device while the block runs.

    To the host: everything that `count_host_transfers` counts, except the explicit `jax.device_get`. To the device:
    everything that `jax.transfer_guard` stops, for example NumPy arrays as arguments of a compiled function;
    `jax.device_put` is allowed. The first call of a program may copy its constants to the device: call it once before
    the block.

    Raises:
        AssertionError: Raised by the line that transfers.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnn import testing
        >>> step = jax.jit(lambda x: x + 1)
        >>> x = step(jnp.zeros(3))
        >>> with testing.forbid_host_transfers():
        ...     for _ in range(3):
        ...         x = step(x)
        ...     values = jax.device_get(x)
        >>> with testing.forbid_host_transfers():
        ...     print(x)
        Traceback (most recent call last):
        ...
        AssertionError: implicit transfer to the host: __str__ of a float32[3] array; use the...
    """

    def refuse(way: str, array: Any) -> None:
        if way != "explicit":
            raise AssertionError(
                f"implicit transfer to the host: {way} of a {array.aval.str_short()} array; "
                "use the explicit jax.device_get."
            )

    try:
        with _watched(refuse), jax.transfer_guard("disallow"):
            yield
    except jax.errors.JaxRuntimeError as error:
        if "Disallowed" not in str(error):
            raise
        raise AssertionError(f"implicit transfer: {error}") from error


@contextlib.contextmanager
def _watched(report: Callable[[str, Any], None]) -> Iterator[None]:
    """Calls `report(way, array)` whenever this thread reads an array."""
    with jax.transfer_guard("allow"):
        array_type = type(jnp.zeros(()))
    thread = threading.get_ident()
    explicit = False  # inside `jax.device_get`
    inside = False  # one kind of read often calls another

    def watch(way: str, read: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(read)
        def watched(source: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            sources = source if isinstance(source, list | tuple) else [source]
            arrays = [array for array in sources if isinstance(array, array_type)]
            if inside or not arrays or threading.get_ident() != thread:
                return read(source, *args, **kwargs)
            for array in arrays:
                report("explicit" if explicit else way, array)
            inside = True
            try:
                return read(source, *args, **kwargs)
            finally:
                inside = False

        return watched

    def announce(get: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(get)
        def announced(tree: Any) -> Any:
            nonlocal explicit
            if threading.get_ident() != thread:
                return get(tree)
            before, explicit = explicit, True
            try:
                return get(tree)
            finally:
                explicit = before

        return announced

    with contextlib.ExitStack() as stack:

        def replace(owner: Any, name: str, new: Any) -> None:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, new)

        for name in _READS:
            if name in vars(array_type):
                replace(array_type, name, watch(name, getattr(array_type, name)))
        for name in _CONVERSIONS:
            replace(np, name, watch(f"np.{name}", getattr(np, name)))
        replace(jax, "device_get", announce(jax.device_get))
        yield
