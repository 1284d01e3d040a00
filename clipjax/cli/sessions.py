"""What a run remembers of its starts: the command, the versions, the machine, and how each start ended.

RUN/sessions.jsonl has a line for each start and one for its end. A report tells from it how to repeat a run,
whether it is finished, and whether versions were mixed.
"""

import contextlib
import dataclasses
import json
import platform
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipjax.errors import Stopped
from clipjax.evaluation.run_record import SESSIONS_FILE

if TYPE_CHECKING:
    from clipjax.cli.problem_files import ProblemFiles

PACKAGES = ("clipjax", "jax", "flax", "optax", "numpy")


@contextlib.contextmanager
def session(folder: Path, words: Sequence[str], files: "ProblemFiles | None") -> Iterator[None]:
    """Note that work in a run's directory begins, and how it ends, also when it fails or is stopped."""
    import jax

    if jax.process_index() != 0:
        yield
        return
    start = time.monotonic()
    _write(
        folder,
        event="start",
        command=["clipjax", *words] if words else [],
        versions=versions(),
        devices=[f"{device.platform} {device.device_kind}" for device in jax.devices()],
        processes=jax.process_count(),
        problem=None if files is None else dataclasses.asdict(files),
    )
    outcome: dict[str, Any] = {"event": "stopped"}
    try:
        yield
        outcome = {"event": "done"}
    except Stopped:
        raise
    except Exception as error:
        outcome = {"event": "failed", "reason": str(error).splitlines()[0][:500] if str(error) else repr(error)}
        raise
    finally:
        _write(folder, **outcome, seconds=round(time.monotonic() - start, 1), peak_memory_mb=peak_memory_mb())


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def peak_memory_mb() -> int:
    """Return the most memory that this process has had so far; what accelerators hold is not in it."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def _write(folder: Path, **values: Any) -> None:
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **values}) + "\n"
    # a full disk is complained of where results are written
    with contextlib.suppress(OSError), (folder / SESSIONS_FILE).open("a", encoding="utf-8") as file:
        file.write(line)
