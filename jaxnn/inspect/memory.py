"""Memory: the need of a compiled program, and the free memory of devices."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

SHARE = 0.9
"""Share of the free memory that a program may take, since allocators leave gaps."""

UNLIMITED = 1 << 60
"""This number of free bytes, or more, means that no limit is known."""


class Memory(NamedTuple):
    """Memory of a compiled program on each device, in bytes.

    Attributes:
        arguments: Size of its arguments.
        outputs: Size of its results.
        reused: Part of the outputs that reuses the memory of donated arguments.
        temporaries: Size of its temporaries.
    """

    arguments: int
    outputs: int
    reused: int
    temporaries: int

    @property
    def peak(self) -> int:
        """Largest total while the program runs."""
        return self.arguments + self.outputs - self.reused + self.temporaries


def memory_of(compiled: jax.stages.Compiled) -> Memory | None:
    """Returns the memory of a compiled program; None if the backend does not report it."""
    found: Any = compiled.memory_analysis()
    if found is None:
        return None
    return Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes,
        found.alias_size_in_bytes,
        found.temp_size_in_bytes,
    )


def bytes_needed(compiled: jax.stages.Compiled) -> int:
    """Returns the bytes that a program allocates on each device: temporaries, and results that reuse no argument.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.inspect.memory import bytes_needed
        >>> product = jax.jit(lambda x: x @ x).lower(jax.ShapeDtypeStruct((100, 100), jnp.float32)).compile()
        >>> bytes_needed(product) >= 40_000
        True
    """
    memory = memory_of(compiled)
    return 0 if memory is None else memory.peak - memory.arguments


def bytes_held(tree: Any) -> int:
    """The bytes that the arrays of a pytree, or their shapes, take on each device.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.inspect.memory import bytes_held
        >>> bytes_held({"w": jnp.ones((3, 4)), "b": jnp.ones(4)})
        64
    """

    def size(x: Any) -> int:
        shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
        return math.prod(shape) * int(x.dtype.itemsize)

    return sum(map(size, jax.tree.leaves(tree)))


def bytes_free(devices: Sequence[jax.Device]) -> int:
    """Returns the bytes free on each device; devices that are the host share its free memory.

    Returns:
        The smallest number of free bytes; at least `UNLIMITED` if there is no limit.
    """
    free = []
    for device in devices:
        stats = device.memory_stats()
        if stats and "bytes_limit" in stats:
            free.append(int(SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))))
        else:
            free.append(int(SHARE * _host_free() / len(devices)))
    return min(free)


def _host_free() -> int:
    """Returns the free bytes of the host, or of the container of this process."""
    free = [1 << 62]
    meminfo = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines())
    if "MemAvailable" in meminfo:
        free.append(1024 * int(meminfo["MemAvailable"].split()[0]))
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        free.append(int(limit) - int(used))
    return max(0, min(free))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:  # another operating system, or no limit
        return ""


def readable(size: float) -> str:
    """Formats a number of bytes for people.

    Example:
        >>> from jaxnn.inspect.memory import readable
        >>> readable(512), readable(3 << 20), readable(1.5 * (1 << 30))
        ('512 B', '3.0 MiB', '1.5 GiB')
    """
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} GiB"
