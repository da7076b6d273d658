"""Processes that tests start, with few threads of their own and the tests' compilation cache."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

ROOT = Path(__file__).parents[2]


def start(*command: str, cwd: Path = ROOT, before: Sequence[str] = ()) -> subprocess.Popen:
    """Starts `python COMMAND...` on one device; its output and errors are one stream of lines. `before` runs it."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or "",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "MPLBACKEND": "agg",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=1",
    }
    return subprocess.Popen(
        [*before, sys.executable, *command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen, text: str) -> str:
    """Lines of its output up to one that holds a text, which has to come."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"it ended without {text!r}:\n{''.join(lines)}")
