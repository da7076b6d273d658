"""What a record of measurements says of the machine and of the versions."""

import importlib.metadata
import os
import platform

from jaxnn.processor import facts

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "numpy", "torch", "keras", "tensorflow", "tensorflow-cpu", "dm-haiku", "equinox",
    "jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "libtpu",
)  # fmt: skip


def processor() -> str:
    """The processor's name."""
    return facts().get("model name") or platform.processor() or platform.machine()


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
