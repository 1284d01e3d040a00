"""Processes that make whole batches in turn, for images so small that Python's lock would bound the loader.

Worker w of W makes batches w, w + W and so on, so that the stream is the same for any number. Grain's
own worker processes would import JAX, run the user's main script again and outlive a killed parent;
these are plain children that end when their end of a socket does. A batch arrives in memory without
a name, which the system frees with its last user, however that ends.
"""

import contextlib
import copy
import functools
import itertools
import mmap
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeGuard, TypeVar, cast

import numpy as np

from clipjax.errors import DataError

S = TypeVar("S")

_AHEAD = 2  # batches of each worker that wait to be taken
_ALIGNED = 64  # bytes, as JAX wants arrays that it need not copy
_SIZES = struct.Struct("QQ")

# the GNU C library keeps freed memory for the next batch; to get it anew from the system costs a tenth of the time
_ENVIRONMENT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "JAX_PLATFORMS": "cpu"}

_UNOPENED = "its batch cannot be opened ({}); each batch that is kept is an open file: keep fewer, or copy them"

_PROGRAM = "import sys; from clipjax.data.worker_processes import work; work(*map(int, sys.argv[1:]))"


class Made(NamedTuple):
    """A batch, and what whoever takes it should know, such as images that were left out."""

    batch: dict[str, np.ndarray]
    news: Any


class Divisible(Protocol):
    """A batch source that several processes can share out among themselves, picklable."""

    @property
    def workers(self) -> int:
        """The number of worker processes; 0 for none."""
        ...

    def every_nth(
        self, first_step: int, every: int, *, process: int, processes: int, threads: int | None
    ) -> Iterator[Made]:
        """Yield a process's rows of batch `first_step` and of each `every`-th that follows, without end.

        `threads` decode where the source itself does not say how many; None is one for each core.
        """
        ...

    def note(self, news: Any) -> None:
        """Take in the news of a batch, in the process that takes the batch."""
        ...


def divisible(source: Any) -> TypeGuard[Divisible]:
    """Say whether processes can share out a source's batches."""
    return hasattr(source, "every_nth")


def with_workers(source: S, workers: int) -> S:
    """Let so many worker processes make the batches of a source, where it can have any; 0 leaves it as it is."""
    if not workers or not hasattr(source, "workers"):
        return source
    changed = copy.copy(source)  # not anew: what is noted of bad images stays shared
    object.__setattr__(changed, "workers", workers)
    return changed


def batches_of(
    source: Divisible, first_step: int, *, process: int, processes: int
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yield a source's batches, made by its workers or, if it has none, in threads.

    Raises:
      DataError: the batches cannot be made, or a worker has died.
    """
    if source.workers < 0:
        raise DataError(f"workers={source.workers}; give the number of worker processes, or 0 for none")
    make = functools.partial(source.every_nth, process=process, processes=processes)
    if source.workers:
        stream = made_by_workers(functools.partial(make, threads=0), first_step, source.workers)
    else:
        stream = make(first_step, 1, threads=None)
    with contextlib.closing(cast(Generator, stream)):
        for batch, news in stream:
            source.note(news)
            yield batch
            del batch  # or it would stay in memory while the next one is awaited


def made_by_workers(make: Callable[[int, int], Iterator[Made]], first: int, workers: int) -> Iterator[Made]:
    """Yield what the endless `make(first, 1)` does; worker w of `workers` runs `make(first + w, workers)`.

    What a worker raises is raised here in the place of its batch. Closing the iterator ends the workers.

    Raises:
      DataError: `make` cannot be sent to another process, or a worker has died.
    """
    try:
        import cloudpickle  # knows classes of the user's main script

        order = cloudpickle.dumps(make)
    except Exception as error:  # whatever an object's own __getstate__ raises
        raise DataError(f"cannot be sent to worker processes ({error}); use workers=0") from error
    with contextlib.ExitStack() as stack:
        with _memory() as file:
            file.write(order)
            file.flush()
            started = [stack.enter_context(_Worker.started(w, workers, first, file)) for w in range(workers)]
        del order  # images in memory can be large
        for worker in itertools.cycle(started):
            yield worker.take()


class _Worker:
    """The parent's view of one worker."""

    def __init__(self, title: str, process: subprocess.Popen, connection: socket.socket):
        self.title, self.process, self.connection = title, process, connection

    @classmethod
    @contextlib.contextmanager
    def started(cls, worker: int, workers: int, first: int, order: BinaryIO) -> "Iterator[_Worker]":
        here, there = socket.socketpair()
        with here:
            with there:
                passed = there.fileno(), order.fileno()
                numbers = map(str, (*passed, first + worker, workers))
                process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _PROGRAM, *numbers],
                    pass_fds=passed,
                    stdin=subprocess.DEVNULL,
                    env=os.environ | _ENVIRONMENT | {"PYTHONPATH": _path()},
                    start_new_session=True,  # Ctrl-C and a scheduler's signals are for the parent to decide about
                )
            try:
                yield cls(f"worker process {worker + 1} of {workers}", process, here)
            finally:
                process.kill()
                process.wait()

    def take(self) -> Made:
        """Wait for the next batch.

        Raises:
          DataError: the worker has died, or so many batches are kept that no file can be opened.
        """
        try:
            message, descriptors, _, _ = socket.recv_fds(self.connection, _SIZES.size, 1)
        except ConnectionResetError:
            message, descriptors = b"", []
        if not message:
            raise DataError(f"{self.title} {_ending(self.process.wait())}")
        if not descriptors:  # the system has dropped it on the way
            raise DataError(f"{self.title}: {_UNOPENED.format('too many open files')}")
        with contextlib.suppress(OSError):  # one that has died since is noticed when its next batch is due
            self.connection.send(b"+")
        return self._opened(descriptors[0], *_SIZES.unpack(message))

    def _opened(self, descriptor: int, end: int, more: int) -> Made:
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)  # all pages at once: faults one by one are slow
        try:
            memory = mmap.mmap(descriptor, end + more, flags)
        except OSError as error:
            raise DataError(f"{self.title}: {_UNOPENED.format(error.strerror)}") from error
        finally:
            os.close(descriptor)
        layout, news, error = pickle.loads(memory[end:])
        if error is not None:
            raise error if isinstance(error, Exception) else RuntimeError(f"{self.title}: {error}")
        batch = {name: np.ndarray(shape, dtype, memory, offset) for name, dtype, shape, offset in layout}
        return Made(batch, news)


def _ending(status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        return f"was ended by {name}; if memory ran out, use fewer workers or smaller batches"
    return f"ended early with status {status}; what it said is above"


def _path() -> str:
    return os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)


def _memory() -> BinaryIO:
    """Open new memory that another process can be given, and that vanishes with its last user."""
    if hasattr(os, "memfd_create"):  # not bounded by /dev/shm, which is small in containers
        return os.fdopen(os.memfd_create("clipjax"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


def work(connection: int, order: int, first: int, workers: int) -> None:
    """Make batches in a child process until nobody takes them."""
    os.dup2(2, 1)  # what is printed here is no part of the parent's output
    parent = socket.socket(fileno=connection)
    try:
        with mmap.mmap(order, 0, access=mmap.ACCESS_READ) as pickled:
            make = pickle.loads(pickled)
        os.close(order)
        room = _AHEAD
        for batch, news in make(first, workers):
            _send(parent, batch, news)
            room -= 1
            del batch
            while not room:
                room = len(parent.recv(_AHEAD)) or _end()
    except Exception as error:
        if not isinstance(error, DataError):
            error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
        with contextlib.suppress(OSError):
            _send(parent, {}, None, error)
            while parent.recv(_AHEAD):  # the message is lost if this end closes with something unread
                pass
    _end()


def _end() -> int:
    os._exit(0)  # threads may still decode ahead


def _send(parent: socket.socket, batch: dict[str, np.ndarray], news: Any, error: Exception | None = None) -> None:
    with _memory() as file:
        layout = []
        for name, array in batch.items():
            file.seek(-file.tell() % _ALIGNED, os.SEEK_CUR)
            layout.append((name, array.dtype, array.shape, file.tell()))
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        end = file.tell()
        more = file.write(_pickled(layout, news, error))
        file.flush()
        socket.send_fds(parent, [_SIZES.pack(end, more)], [file.fileno()])


def _pickled(layout: list[Any], news: Any, error: Exception | None) -> bytes:
    import cloudpickle

    try:
        content = cloudpickle.dumps((layout, news, error))
        pickle.loads(content)  # some exceptions can be written and not read
        return content
    except Exception:
        if error is None:
            raise
        return cloudpickle.dumps((layout, news, "".join(traceback.format_exception(error))))
