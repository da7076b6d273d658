"""The parent's side of the workers: one process a library, each asked in turn, so that nothing runs beside another."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import experiments

DEVICES = "jax, a device per core"
"""The process in which each core is a device of JAX."""

# Processes and what their environment needs: a Keras backend is a choice of the whole process.
LIBRARIES: dict[str, dict[str, str]] = {
    "jax": {},
    DEVICES: {},
    "torch": {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"},  # compile times are those of a first time
    "keras-tensorflow": {"KERAS_BACKEND": "tensorflow"},
    "keras-jax": {"KERAS_BACKEND": "jax"},
}
PATIENCE = 300.0
"""Seconds until a worker that does not answer is ended."""


class Refusal(Exception):  # noqa: N818 - the answer of a side that cannot serve, not an error of the benchmark
    """A side's work cannot be done: something is missing, or it failed."""


class Worker:
    """A process that is asked one thing at a time."""

    def __init__(
        self, library: str, cores: Sequence[int], log: TextIO | None = None, extra: Mapping[str, str] | None = None
    ) -> None:
        """Starts it.

        Args:
          library: one of `LIBRARIES`, or what `at` returns for another Python.
          cores: those it may use; it gets as many threads.
          log: where everything goes that libraries print; nowhere by default.
          extra: more of its environment.
        """
        library, _, python = library.partition("@")
        self.process = subprocess.Popen(
            [python or sys.executable, "-m", "experiments.bench.worker", ",".join(map(str, cores))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if log is None else log,
            env=environment(library, len(cores)) | dict(extra or {}),
            encoding="utf-8",
        )

    def ask(self, patience: float = PATIENCE, **request: Any) -> dict[str, Any]:
        """Its answer to a request; raises `Refusal`, and ends it if it was lost or does not answer in time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        watch = threading.Timer(patience, self.process.kill)
        watch.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late = not watch.is_alive()
            watch.cancel()
        if not line:
            self.close()
            raise Refusal(f"no answer in {patience:.0f} s" if late else f"process ended ({self.process.returncode})")
        answer: dict[str, Any] = json.loads(line)
        for why in ("missing", "failed"):
            if why in answer:
                raise Refusal(answer[why])
        return answer

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None

    def close(self) -> None:
        """Ends it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Workers:
    """Workers on the same cores, started when first asked, and again when one was lost."""

    def __init__(self, cores: Sequence[int], log: TextIO | None = None) -> None:
        self.cores, self.log = tuple(cores), log
        self._workers: dict[str, Worker] = {}

    def ask(self, library: str, **request: Any) -> dict[str, Any]:
        """The answer of the library's worker."""
        worker = self._workers.get(library)
        if worker is None or not worker.alive:
            worker = self._workers[library] = Worker(library, self.cores, self.log)
        return worker.ask(**request)

    def clear(self) -> None:
        """Lets every worker forget what it built."""
        for worker in self._workers.values():
            if worker.alive:
                with contextlib.suppress(Refusal):  # it is gone then, and what it built too
                    worker.ask(do="clear")

    def close(self) -> None:
        """Ends them all."""
        for worker in self._workers.values():
            worker.close()

    def start(self, library: str, extra: Mapping[str, str]) -> Worker:
        """A new process of its own, which the caller closes."""
        return Worker(library, self.cores, self.log, extra)


def at(library: str, python: Path) -> str:
    """The name of a library's worker that another Python runs."""
    return f"{library}@{python}"


def environment(library: str, threads: int) -> dict[str, str]:
    """A worker's environment: the processor only, so many threads, nothing compiled before, this copy of the code."""
    root = str(Path(experiments.__file__).parent.parent)
    names = ("OMP", "MKL", "OPENBLAS")
    return {
        **{name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"},
        **{f"{name}_NUM_THREADS": str(threads) for name in names},
        "NPROC": str(threads),  # XLA
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MALLOC_ARENA_MAX": "1",  # so that `memory` can give back what was freed, whichever thread had it
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        **({"JAX_NUM_CPU_DEVICES": str(threads)} if library == DEVICES else {}),
        **LIBRARIES[library],
    }


def usable_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
