"""The environment and the command line of a run, to repeat it."""

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from typing import Any

import jax

import jaxnn
from jaxnn.train.step.compiling import compiler_options

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def environment() -> dict[str, Any]:
    """Collects versions, devices and commit; starts JAX if it has not started yet.

    Returns:
        Values that JSON can hold: `versions`, `platform` (the operating system), `backend`, `devices` (the number of
        each kind, over all processes), `processes`, `compiler_options` (those of
        `train.step.compiler_options`, which hold where a step is given none), `settings` (environment variables that
        change JAX), and `git`: the commit of the working directory's checkout and whether tracked files differ from
        it; None outside a checkout or without git.

    Example:
        >>> from jaxnn.train.run.environment import environment
        >>> sorted(environment())
        ['backend', 'compiler_options', 'devices', 'git', 'platform', 'processes', 'settings', 'versions']
    """
    kinds = [device.device_kind for device in jax.devices()]
    return {
        "versions": {
            "python": platform.python_version(),
            "jaxnn": jaxnn.__version__,
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "platform": platform.platform(),
        "backend": jax.default_backend(),
        "devices": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "processes": jax.process_count(),
        "compiler_options": compiler_options(),
        "settings": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(("JAX_", "XLA_"))},
        "git": _git(),
    }


def command_line() -> str | None:
    """Returns the shell command that starts this program again, in the same working directory.

    It is None without a program: in an interactive session or with `python -c`.

    Example:
        >>> from unittest import mock
        >>> from jaxnn.train.run.environment import command_line
        >>> with mock.patch("sys.argv", [""]):
        ...     print(command_line())
        None
    """
    program = program_line()
    return None if program is None else shlex.join([*program, *sys.argv[1:]])


def program_line() -> list[str] | None:
    """Returns the command of this program without its arguments; None without a program.

    The interpreter is `python`, whatever its path, and a module is `-m NAME`.
    """
    if sys.argv[0] in ("", "-c"):
        return None
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return ["python", sys.argv[0]] if spec is None else ["python", "-m", spec.name.removesuffix(".__main__")]


def _git() -> dict[str, Any] | None:
    # No tags, and no untracked files, which are mostly results of runs.
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return {"commit": told.removesuffix("-dirty"), "dirty": told.endswith("-dirty")}
