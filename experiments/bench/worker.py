"""A process that does one library's work when asked: `python -m experiments.bench.worker CORES`.

Requests come as lines of JSON on standard input, and each is answered by a line on standard output:

    {"do": "build", "side": NAME, "builder": ".file:function", "options": {...}} -> {"seconds": of the first call}
    {"do": "run", "side": NAME, "calls": 3}                                   -> {"seconds": of a call}
    {"do": "run", "side": NAME, "calls": 1, "memory": true}                   -> {"seconds": ..., "peak": bytes}
    {"do": "clear"}                                                           -> {}

or by {"missing": "what is not installed"} or {"failed": "why"}. It ends when its input does.
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

Work = Callable[[], object]

# Errors of these packages' absence are told as such; any other ImportError is a failure.
PEERS = ("torch", "keras", "tensorflow", "haiku", "equinox", "flax", "optax")


def main() -> None:
    """Answers requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it closes the input
    cores = {int(core) for core in sys.argv[1].split(",")}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # before any library counts them
    # Libraries print as they like: only answers go to the pipe.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    works: dict[str, Work] = {}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), works)), file=answers, flush=True)


def answer(request: dict[str, Any], works: dict[str, Work]) -> dict[str, Any]:
    """Does what is asked; `works` holds what was built so far."""
    try:
        if request["do"] == "build":
            file, function = request["builder"].split(":")
            build = getattr(importlib.import_module(file, "experiments.bench.sides"), function)
            works[request["side"]] = build(**request["options"])
            return run(works[request["side"]], 1, request.get("memory", False))
        if request["do"] == "run":
            return run(works[request["side"]], request["calls"], request.get("memory", False))
        clear(works)
        return {}
    except Exception as error:
        traceback.print_exc()
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in PEERS:
            return {"missing": f"{error.name} is not installed"}
        return {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}


def run(work: Work, calls: int, measure_memory: bool) -> dict[str, Any]:
    """Seconds of a call, the mean of some in a row; and the peak memory of one, if asked.

    Where calls are short, one goes before that is not counted: it finds the caches as another process left them.
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
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def clear(works: dict[str, Work]) -> None:
    """Forgets what was built, and asks the libraries to do so too."""
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
