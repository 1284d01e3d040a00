"""Write results whole or not at all.

A result is built under a temporary name beside its final one and renamed at the end, so an
exception, Ctrl-C or a full disk leaves nothing under the final name.
"""

import contextlib
import errno
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from clipjax.errors import OutputError


@contextlib.contextmanager
def new_file(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` when the block ends without an exception.

    Raises:
      OutputError: `path` exists and `overwrite` is false, is a directory, or cannot be written.
    """
    with _staged(Path(path), "file", overwrite=overwrite) as staged:
        yield staged


@contextlib.contextmanager
def new_directory(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty temporary directory; it becomes `path` when the block ends without an exception.

    Raises:
      OutputError: `path` exists and `overwrite` is false, is a file, or cannot be written.
    """
    with _staged(Path(path), "directory", overwrite=overwrite) as staged:
        staged.mkdir()
        yield staged


def check_free(
    path: str | os.PathLike,
    kind: Literal["file", "directory"] | None = None,
    *,
    overwrite: bool = False,
    made_from: Iterable[str | os.PathLike] = (),
) -> None:
    """Refuse early, before hours of work, what `new_file` or `new_directory` would refuse at the end.

    `overwrite` lets a file replace a file and a directory a directory, and never the working directory,
    nor anything that is or holds what the result is `made_from`.

    Raises:
      OutputError: `path` exists and may not be replaced, or lies where nothing can be written.
    """
    path = Path(path)
    for origin in made_from:
        if Path(origin).resolve().is_relative_to(path.resolve()):
            raise OutputError(f"{path}: is or holds {origin}, which is read here; write the result elsewhere")
    if path.exists() or path.is_symlink():
        _check_replaceable(path, kind, overwrite)
    for parent in path.absolute().parents:
        if parent.is_dir():
            if not os.access(parent, os.W_OK | os.X_OK):
                raise OutputError(f"{path}: {parent} is not writable; choose another place")
            break
        if parent.exists():
            raise OutputError(f"{path}: {parent} is a file, not a directory; choose another place")


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold, for writers that fail badly when it is full.

    Raises:
      OutputError: fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"{folder}: the disk is full ({needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free); "
            "free some space or write elsewhere"
        )


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the block ends, for writers whose threads would go on writing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    former = {number: signal.signal(number, lambda number, frame: pending.append(number)) for number in heard}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler or signal.SIG_DFL)
        for number in pending[:1]:
            signal.raise_signal(number)


def _check_replaceable(path: Path, kind: str | None, overwrite: bool) -> None:
    if not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or pass --overwrite")
    if not path.is_symlink() and not path.is_file() and not path.is_dir():
        raise OutputError(f"{path}: is a device or a pipe, which is never replaced; choose another name")
    found = "directory" if path.is_dir() and not path.is_symlink() else "file"
    if kind is not None and found != kind:
        raise OutputError(f"{path}: is a {found}, which a {kind} does not replace; choose another name")
    if found == "directory" and Path.cwd().is_relative_to(path.resolve()):
        raise OutputError(f"{path}: holds the working directory, which is never replaced; choose another name")


@contextlib.contextmanager
def _staged(path: Path, kind: Literal["file", "directory"], *, overwrite: bool) -> Iterator[Path]:
    check_free(path, kind, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # only the beginning of the name, so that a long one does not become too long
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.partial-", dir=path.parent))
    except OSError as error:
        raise _explained(path, error) from error
    try:
        staged = holder / path.name
        yield staged
        _move(staged, path, holder)
    except OSError as error:
        raise _explained(path, error) from error
    except OutputError as error:
        # whoever reads this knows the final name only
        raise OutputError(str(error).replace(str(holder / path.name), str(path))) from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _move(staged: Path, path: Path, holder: Path) -> None:
    replaced = holder / "replaced"
    try:
        if path.is_dir() and not path.is_symlink():
            # a rename replaces files, but no directory that is not empty: step the old result aside
            path.rename(replaced)
        staged.replace(path)
    except BaseException:
        # also on Ctrl-C, or the old result would be removed with the temporary directory
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise


def _explained(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or error
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(f"{path}: the disk is full ({reason}); free some space or write elsewhere")
    return OutputError(f"{path}: cannot be written ({reason}); choose another place")
