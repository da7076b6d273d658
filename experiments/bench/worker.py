"""A process that does the work of one library: `python -m experiments.bench.worker CORES`.

It reads requests from standard input, a line of JSON each, and answers each with a line on standard output:

    {"do": "build", "side": NAME, "builder": ".file:function", "options": {...}} -> {"seconds": of the first call}
    {"do": "run", "side": NAME, "calls": 3}                                   -> {"seconds": of a call}
    {"do": "run", "side": NAME, "calls": 1, "memory": true}                   -> {"seconds": ..., "peak": bytes}
    {"do": "clear"}                                                           -> {}

It answers {"missing": "what is not installed"} or {"failed": "why"} if it cannot serve. It ends when its input ends.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from experiments.bench import memory
from experiments.bench.case import Work

# A side is missing if one of these packages is not installed; any other ImportError is a failure.
PEERS = ("torch", "keras", "tensorflow", "haiku", "equinox", "flax", "optax")


def main() -> None:
    """Answers requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and closes the input
    cores = {int(core) for core in sys.argv[1].split(",")}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # before any library counts them
    # Libraries print to standard output too; this keeps the pipe for the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    works: dict[str, Work] = {}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), works)), file=answers, flush=True)


def answer(request: dict[str, Any], works: dict[str, Work]) -> dict[str, Any]:
    """Answers a request; `works` has the works that were built, by the names of their sides."""
    try:
        if request["do"] == "clear":
            clear(works)
            return {}
        if request["do"] == "build":
            works[request["side"]] = builder(request["builder"])(**request["options"])
        return run(works[request["side"]], request.get("calls", 1), request.get("memory", False))
    except Exception as error:
        traceback.print_exc()
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in PEERS:
            return {"missing": f"{error.name} is not installed"}
        return {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}


def builder(name: str) -> Callable[..., Any]:
    """Imports a side's builder, `.file:function` in `experiments.bench.sides`."""
    file, function = name.split(":")
    return getattr(importlib.import_module(file, "experiments.bench.sides"), function)


def run(work: Work, calls: int, measure_memory: bool) -> dict[str, Any]:
    """Measures the seconds of a call, the mean of several in a row, or the seconds and the peak memory of one.

    Several calls follow one that does not count: it fills the caches, which another process may have used.
    """
    if measure_memory:
        taken: list[float] = []
        peak = memory.peak(lambda: taken.append(seconds(work)))
        return {"seconds": taken[0], "peak": peak}

    if calls > 1:
        work()

    def several() -> None:
        for _ in range(calls):
            work()

    return {"seconds": seconds(several) / calls}


def seconds(work: Work) -> float:
    """Measures the seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def clear(works: dict[str, Work]) -> None:
    """Deletes all works, and clears the caches of the libraries."""
    works.clear()
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    if "torch" in sys.modules:
        sys.modules["torch"].compiler.reset()
    gc.collect()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
