"""Strict settings for every test and doctest: a silent promotion or broadcast is a failure."""

import gc
import itertools
import math
import os
import random
import tempfile
import time
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "agg")
# A GPU is shared by all workers of pytest-xdist; JAX else reserves most of its memory for the first.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# Compiling is most of the suite's time. A third of it LLVM spends on optimising machine code, which is no part of what
# most tests prove: what XLA makes of a layer is the same without. Tests of what only machine code can break (equality
# bit for bit, NaN) are marked `optimized` and get it; with JAX_DISABLE_MOST_OPTIMIZATIONS=0 all tests do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

# As the installed package names it, so that it is loaded once; here for a checkout that is not installed.
pytest_plugins = ["jaxnn.pytest_plugin"]

OPTIMIZE_ALL = not jax.config.read("jax_disable_most_optimizations")

# Eight devices on any machine, so that sharding is tested without eight chips. XLA reads it with the first device.
# XLA splits a program to compile its parts on several threads. Each part has its cost, and the other cores run other
# tests: one part takes a quarter of the compile time less.
FLAGS = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_cpu_parallel_codegen_split_count=1"
)


def _flags(optimized):
    """`XLA_FLAGS` for what is compiled next.

    JAX 0.10 takes half of its compile time to emit the code of fused operations. Its older emitters are fast; later
    releases have neither them nor the flag. Being told to, XLA reads its flags again before each compilation.
    """
    if jax.__version_info__ >= (0, 11):
        return FLAGS
    return f"{FLAGS} --xla_flags_reset=true --xla_cpu_use_fusion_emitters={str(optimized).lower()}"


os.environ["XLA_FLAGS"] = _flags(OPTIMIZE_ALL)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Compiling is most of the suite's time; what was compiled once on this machine is kept.
jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "jaxnn-test-cache")),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
if jax.default_backend() != "cpu":
    # Accelerators round the factors of products to TF32 or bfloat16; what results are compared with is not rounded.
    jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(autouse=True)
def _optimized_where_marked(request):
    """What was compiled without optimisation for another test is not taken for one that is marked."""
    wanted = OPTIMIZE_ALL or request.node.get_closest_marker("optimized") is not None
    if wanted and jax.config.read("jax_disable_most_optimizations"):
        jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", not wanted)
    os.environ["XLA_FLAGS"] = _flags(wanted)


# Where time is limited (`.ci/run`), what would begin after this second of the clock is skipped, and listed as skipped.
# The second also chooses the order of the files: not the same ones come last in every run.
UNTIL = float(os.environ.get("JAXNN_TESTS_UNTIL", "inf"))


def pytest_runtest_setup(item):
    """Skips what would begin too late."""
    if time.time() > UNTIL:
        pytest.skip("no time left")


programs = 0


def _count_programs(event, seconds, **details):
    global programs
    programs += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count_programs)


@pytest.fixture(autouse=True)
def _few_programs_at_a_time():
    """Bounds the memory of files that compile thousands. Fewer would be compiled again: tests of a file share many."""
    global programs
    yield
    if programs > 500:
        programs = 0
        jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def _what_a_module_compiled_goes_with_it():
    """Thousands of programs would else be kept to the end, gigabytes for each worker."""
    global programs
    yield
    programs = 0
    jax.clear_caches()


@pytest.fixture(scope="session")
def _new_folders(tmp_path_factory):
    """Numbered here: `mktemp` looks at all that exist for each new one, a fourth of a minute for 3,600."""
    root = tmp_path_factory.mktemp("cwd")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(_new_folders, monkeypatch):
    """Nothing a test or doctest writes by a relative path lands in the checkout."""
    folder = next(_new_folders)
    folder.mkdir()
    monkeypatch.chdir(folder)


def pytest_collection_finish(session):
    """Lets the garbage collector leave alone what was imported, and look at the rest less often.

    Tracing makes many objects that do not last. Looking for cycles among them, and among all modules, is a seventh of
    the suite's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def pytest_collection_modifyitems(config, items):
    """Skips what this machine cannot run, and says why; where time is limited, every file may come first."""
    if math.isfinite(UNTIL):
        files = sorted({item.path for item in items})
        random.Random(UNTIL).shuffle(files)
        items.sort(key=lambda item: files.index(item.path))
    has_gpu = jax.default_backend() == "gpu"
    for item in items:
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU; JAX sees none here"))
