"""Counting programs that XLA compiles, or takes from a cache on disk."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def record_compilations() -> Iterator[list[str]]:
    """The names of all programs compiled while the block runs."""
    names: list[str] = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(details.get("fun_name", "?")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
