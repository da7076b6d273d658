"""What the settings of the suite promise to every test."""

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache


def test_a_half_written_entry_of_the_compilation_cache_is_compiled_again(tmp_path):
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compilation_cache.reset_cache()
    try:
        triple = jax.jit(lambda x: 3 * x)
        triple(np.float32(2))
        entries = list(tmp_path.glob("*-cache"))
        assert entries
        for entry in entries:
            entry.write_bytes(entry.read_bytes()[:-20])
        jax.clear_caches()
        assert triple(np.float32(2)) == 6
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()
