"""What a record of measurements says of the machine and of the versions."""

import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "numpy", "torch", "keras", "tensorflow", "tensorflow-cpu", "dm-haiku", "equinox",
)  # fmt: skip


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def malloc() -> dict[str, str]:
    """What the environment changes of glibc's memory allocator: all sides run with it."""
    return {name: value for name, value in os.environ.items() if name == "GLIBC_TUNABLES" or name.startswith("MALLOC_")}


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
