"""Write results whole or not at all.

A result is built under a temporary name beside its final one and renamed at the end, so an
exception, Ctrl-C or a full disk leaves nothing under the final name.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from clipjax.errors import OutputError


@contextlib.contextmanager
def new_file(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` when the block ends without an exception.

    Raises:
      OutputError: `path` exists and `overwrite` is false, or it cannot be written.
    """
    with _staged(Path(path), overwrite=overwrite) as staged:
        yield staged


@contextlib.contextmanager
def new_directory(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty temporary directory; it becomes `path` when the block ends without an exception.

    Raises:
      OutputError: `path` exists and `overwrite` is false, or it cannot be written.
    """
    with _staged(Path(path), overwrite=overwrite) as staged:
        staged.mkdir()
        yield staged


def check_free(path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Refuse early, before hours of work, what `new_file` or `new_directory` would refuse at the end.

    Raises:
      OutputError: `path` exists and `overwrite` is false, or its parent is not a directory.
    """
    path = Path(path)
    if not overwrite and (path.exists() or path.is_symlink()):
        raise OutputError(f"{path}: exists already; choose another name or pass --overwrite")
    for parent in path.absolute().parents:
        if parent.is_dir():
            break
        if parent.exists():
            raise OutputError(f"{path}: {parent} is a file, not a directory; choose another place")


@contextlib.contextmanager
def _staged(path: Path, *, overwrite: bool) -> Iterator[Path]:
    check_free(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    except OSError as error:
        raise _explained(path, error) from error
    try:
        staged = holder / path.name
        yield staged
        _move(staged, path, holder)
    except OSError as error:
        raise _explained(path, error) from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _move(staged: Path, path: Path, holder: Path) -> None:
    replaced = holder / "replaced"
    if path.exists() or path.is_symlink():
        # rename() does not replace a directory that is not empty: step the old result aside first
        path.rename(replaced)
    try:
        staged.rename(path)
    except OSError:
        if replaced.exists() or replaced.is_symlink():
            replaced.rename(path)
        raise


def _explained(path: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(f"{path}: the disk is full; free some space or write elsewhere")
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); choose another place")
