"""Fair timing of several functions in one run, and a description of the machine it ran on."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any


def alternate(functions: Mapping[str, Callable[[], Any]], rounds: int, pause: float = 0.05) -> dict[str, float]:
    """Time functions in turn, so that a slow moment of the machine hits all, and return their median seconds.

    Each is called twice before the first measurement (compilation, caches). The thread pools of
    torch and XLA spin for a while after their last task and would take a core from the other's
    next call: a pause before each call lets them fall asleep. Every round begins with another function.
    """
    for function in functions.values():
        function()
        function()
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> dict[str, Any]:
    """Describe where a number was measured."""
    import jax

    return {
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        "threads": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        **{name: version(name) for name in ("jax", "flax", "torch", "transformers")},
    }


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
