"""Start: from starting `python` to the end of the first training step, without and with cached programs."""

import tempfile
from pathlib import Path

from experiments.bench.case import Case, Settings, Side


def cases(settings: Settings) -> list[Case]:
    """The CIFAR-10 network with batches of 32. The first start of a side does not count: it fills the cache."""
    sides = [
        Side("jaxnn", ".jaxnn_networks:step"),
        Side("jaxnn, second start", ".jaxnn_networks:step", environment=_cache(settings.scratch, "jaxnn")),
        Side("PyTorch", ".torch_networks:step", "torch"),
    ]
    if not settings.quick:
        sides += [
            Side("Flax NNX", ".flax_networks:step"),
            Side("Flax NNX, second start", ".flax_networks:step", environment=_cache(settings.scratch, "flax")),
            Side("Keras on TensorFlow", ".keras_networks:step", "keras-tensorflow"),
            Side("Keras on JAX", ".keras_networks:step", "keras-jax"),
        ]
    options = {"network": "cifar10", "batch": 32, "steps": 1}
    return [Case("start to first step, batch 32", tuple(sides), options, fresh=True)]


def _cache(scratch: Path, name: str) -> dict[str, str]:
    """Environment variables for JAX's persistent cache of compiled programs, in a new folder."""
    return {
        "JAX_COMPILATION_CACHE_DIR": tempfile.mkdtemp(prefix=name, dir=scratch),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
