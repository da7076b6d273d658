"""The workers, one process for each library. One works at a time, so that no other work disturbs a measurement."""

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
"""The worker in which each core is a device of JAX."""

# Workers and their environment variables: a process has one Keras backend.
LIBRARIES: dict[str, dict[str, str]] = {
    "jax": {},
    DEVICES: {},
    "torch": {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"},  # so that compiling takes as long as the first time
    "keras-tensorflow": {"KERAS_BACKEND": "tensorflow"},
    "keras-jax": {"KERAS_BACKEND": "jax"},
}
PATIENCE = 300.0
"""Seconds after which a worker that does not answer is killed."""


class Refusal(Exception):  # noqa: N818 - an answer of a worker, not an error of the benchmark
    """A side cannot serve: a package is missing, or the work failed."""


class Worker:
    """A process that answers one request at a time.

    Args:
        library: A name in `LIBRARIES`, or `name@python` for the program of another Python.
        cores: The cores that it may use; it has as many threads.
        log: File for the output of the libraries; None to discard it.
        extra: More environment variables.
    """

    def __init__(
        self, library: str, cores: Sequence[int], log: TextIO | None = None, extra: Mapping[str, str] | None = None
    ) -> None:
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
        """Returns the answer to a request.

        Raises:
            Refusal: If the side cannot serve, the process has ended, or it does not answer in time, which ends it.
        """
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
        """Whether the process still runs."""
        return self.process.poll() is None

    def close(self) -> None:
        """Ends the process."""
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
    """Workers on the same cores. The first request starts a worker, and a request to a lost worker starts it again."""

    def __init__(self, cores: Sequence[int], log: TextIO | None = None) -> None:
        self.cores, self.log = tuple(cores), log
        self._workers: dict[str, Worker] = {}

    def ask(self, library: str, **request: Any) -> dict[str, Any]:
        """Returns the answer of the library's worker."""
        worker = self._workers.get(library)
        if worker is None or not worker.alive:
            worker = self._workers[library] = Worker(library, self.cores, self.log)
        return worker.ask(**request)

    def clear(self) -> None:
        """Deletes the works of every worker."""
        for worker in self._workers.values():
            if worker.alive:
                with contextlib.suppress(Refusal):  # the process has ended, and its works with it
                    worker.ask(do="clear")

    def close(self) -> None:
        """Ends all workers."""
        for worker in self._workers.values():
            worker.close()

    def start(self, library: str, extra: Mapping[str, str]) -> Worker:
        """Starts a separate worker, which the caller closes."""
        return Worker(library, self.cores, self.log, extra)


def environment(library: str, threads: int) -> dict[str, str]:
    """A worker's environment: only the CPU, this number of threads, no cached programs, this copy of the code."""
    root = str(Path(experiments.__file__).parent.parent)
    names = ("OMP", "MKL", "OPENBLAS")
    return {
        **{name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"},
        **{f"{name}_NUM_THREADS": str(threads) for name in names},
        "NPROC": str(threads),  # XLA
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MALLOC_ARENA_MAX": "1",  # so that `memory` can return the freed memory of all threads to the system
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        **({"JAX_NUM_CPU_DEVICES": str(threads)} if library == DEVICES else {}),
        **LIBRARIES[library],
    }


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
