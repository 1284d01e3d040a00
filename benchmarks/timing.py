"""Fair timing of several functions in one run, and a description of the machine it ran on."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def alternate(functions: Mapping[str, Callable[[], Any]], rounds: int, pause: float = 0.05) -> dict[str, float]:
    """Time functions in turn, so that a slow moment of the machine hits all, and return their median seconds.

    Each is called twice before the first measurement (compilation, caches). The thread pools of
    torch and XLA spin for a while after their last task and would take a core from the other's
    next call: a pause before each call lets them fall asleep. Memory that one library gives back,
    the next call of the other must get anew from the system, which can cost as much as its
    arithmetic: each measured call follows one of the same function. Every round begins with another.
    """
    for function in functions.values():
        function()
        function()
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in rotated(names, turn):
            time.sleep(pause)
            functions[name]()
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Order the sides of a comparison for this round: every round begins with another."""
    first = turn % len(names)
    return [*names[first:], *names[:first]]


def machine() -> dict[str, Any]:
    """Describe where a number was measured; libraries that are not installed are None."""
    import jax

    return {
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
        "threads": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        **{name: _version(name) for name in ("jax", "flax", "torch", "transformers")},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
