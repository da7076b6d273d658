"""The machine and the versions of the packages, for the records of the measurements."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from jaxnn.processor import facts

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "numpy", "torch", "keras", "tensorflow", "tensorflow-cpu", "dm-haiku", "equinox",
    "jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "libtpu",
)  # fmt: skip


def processor() -> str:
    """Returns the processor's name."""
    return facts().get("model name") or platform.processor() or platform.machine()


def malloc() -> dict[str, str]:
    """Lists the environment variables that change glibc's memory allocator for all sides."""
    return {name: value for name, value in os.environ.items() if name == "GLIBC_TUNABLES" or name.startswith("MALLOC_")}


def versions() -> dict[str, str]:
    """Lists the versions of Python and of the installed packages."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def jax_of(python: Path) -> str:
    """Returns the version of JAX that another Python imports."""
    command = [str(python), "-c", "import flax, jax, optax; print(jax.__version__)"]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"--also: expected a Python, got {python} ({why}); give the path of its program.") from error
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or ["no output"])[-1]
        raise ValueError(
            f"--also: expected a Python with jax, flax and optax, got {python} ({why}); install them there."
        ) from error
