"""Sides for the benchmark's tests, which a worker builds without any library."""

import os
import sys
import time


def sleeping(seconds, log=None, name=""):
    """Sleeps, and writes its name to a log."""

    def work():
        if log is not None:
            with open(log, "a", encoding="utf-8") as file:
                file.write(name + "\n")
        time.sleep(seconds)

    return work


def allocating(size):
    """Fills and drops `size` bytes."""

    def work():
        print("libraries print to standard output")
        assert len(bytearray(b"x") * size) == size

    return work


def absent():
    import haiku_is_not_here  # noqa: F401


def peerless():
    raise ModuleNotFoundError("No module named 'haiku'", name="haiku")


def wrong(**options):
    raise ValueError(f"cannot serve {sorted(options)}\nand more")


def breaking():
    """Fails at the second call."""
    calls = []

    def work():
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("broke")

    return work


def dying():
    return lambda: os._exit(3)


def ready(compiling=1.5, peak=7 * 2**20, **options):
    """A side of `experiments.bench.gpu` that does nothing."""
    from experiments.bench.sides.accelerator import Ready

    return Ready(lambda: time.sleep(0.001), compiling, peak)


def too_large(**options):
    raise MemoryError("32 GiB")


def lacking(**options):
    raise ModuleNotFoundError("No module named 'haiku'", name="haiku")


def faulty():
    raise TypeError("a fault of the benchmark")


def surroundings():
    """Fails unless the worker has one core, one thread, and no other library."""
    assert len(os.sched_getaffinity(0)) == 1
    assert os.environ["OMP_NUM_THREADS"] == os.environ["TF_NUM_INTRAOP_THREADS"] == "1"
    assert not {"jax", "numpy", "torch", "keras"} & set(sys.modules)
    return lambda: None
