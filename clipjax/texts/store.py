"""Texts on disk: one JSON line each, appended, never rewritten; the last line of a key counts.

A killed writer leaves at most half a line, which the next one removes. Several processes on one
machine may append at once. Opening finds the keys and reads no text.
"""

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from clipjax.errors import DataError, OutputError
from clipjax.texts.record import KEY_LENGTH, Kind, TextRecord, parse_record

logger = logging.getLogger(__name__)

FORMAT = 1

State = Literal["answered", "rejected", "failed"]

_HEADER = b'{"clipjax texts":'
_KEY = b'{"key":"'
_FAILED, _REJECTED = b'","error":', b'","rejected":'
_TEXT_AT = len(_KEY) + KEY_LENGTH
_HEAD = _TEXT_AT + len(_REJECTED)
_NAMED = re.compile(_KEY + b"[0-9a-f]{%d}" % KEY_LENGTH + b'"')


class TextStore:
    """The records of one file, by key.

    Raises:
      DataError: not such a file, one of a newer version, or a line that was edited into nonsense.
      OutputError: there is none and it cannot be made.
    """

    def __init__(self, path: str | os.PathLike, *, create: bool = False):
        self.path = Path(path)
        self._lock = threading.RLock()
        self._places: dict[bytes, int] = {}
        self._failed: set[bytes] = set()
        self._rejected: set[bytes] = set()
        self._end = 0
        if create:
            with self._appending():
                pass
        self.refresh()

    def __len__(self) -> int:
        """The number of questions that have been asked, failed ones among them."""
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        """Whether a question has been answered, be it by an answer that was rejected."""
        name = key.encode()
        return name in self._places and name not in self._failed

    def asked(self, key: str) -> bool:
        """Whether a question was asked, with whatever result."""
        return key.encode() in self._places

    def __getitem__(self, key: str) -> TextRecord:
        """Read the latest record of a key.

        Raises:
          KeyError: the question was never asked.
          DataError: the line was edited into nonsense.
        """
        with self._lock, self.path.open("rb") as file:
            return self._read(file, self._places[key.encode()])

    def keys(self) -> list[str]:
        """List the keys of all questions with a text."""
        return [name.decode() for name in self._places if name not in self._failed and name not in self._rejected]

    @property
    def failed(self) -> int:
        """The number of questions that were asked and got no answer."""
        return len(self._failed)

    @property
    def texts(self) -> int:
        """The number of questions with a text."""
        return len(self._places) - len(self._failed) - len(self._rejected)

    def records(self, kind: Kind | None = None, *, state: State = "answered") -> Iterator[TextRecord]:
        """Yield the latest record of each key in the order of the file: those with a text, or without.

        Raises:
          DataError: a line was edited into nonsense; the message has its number.
        """
        wanted = [place for name, place in self._places.items() if self._state(name) == state]
        with self.path.open("rb") as file:
            for place in sorted(wanted):
                record = self._read(file, place)
                if kind is None or record.kind == kind:
                    yield record

    def _state(self, name: bytes) -> State:
        return "failed" if name in self._failed else "rejected" if name in self._rejected else "answered"

    def append(self, records: Iterable[TextRecord]) -> int:
        """Add records whose questions have no answer yet, or only a rejected one; return how many were added.

        Raises:
          OutputError: the disk is full, or the file cannot be written; nothing of the call is kept then.
        """
        with self._appending() as file:
            lines, new = [], set()
            for record in records:
                known = self._state(record.key.encode()) if self.asked(record.key) else "failed"
                better = known == "failed" or (known == "rejected" and record.text)
                if better and record.key not in new:
                    lines.append(record.line())
                    if not record.failed:
                        new.add(record.key)
            self._write(file, b"".join(lines))
        self.refresh()
        return len(lines)

    def refresh(self) -> None:
        """Take in what other writers have added.

        Raises:
          DataError: see the class.
        """
        self._refresh(locked=True)

    def _refresh(self, *, locked: bool) -> None:
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    if locked:
                        # not while another writer is at it, who may take back what does not fit on the disk
                        with contextlib.suppress(OSError):  # a file system without locks has no writers
                            fcntl.flock(file, fcntl.LOCK_SH)
                    self._scan(file)
            except FileNotFoundError:
                raise DataError(f"{self.path}: no such text store; check the path") from None
            except OSError as error:
                raise DataError(f"{self.path}: cannot be read ({error.strerror}); check the path") from error

    def verify(self) -> list[str]:
        """Read every line and say what is wrong with which."""
        found = []
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1 or not line.endswith(b"\n"):
                    continue  # the header; a line that is being written
                try:
                    parse_record(line)
                except DataError as error:
                    found.append(f"{self.path}: line {number} {error}")
        return found

    @contextlib.contextmanager
    def _appending(self) -> Iterator[int]:
        """Open the file for writing, alone, with half a line of a killed writer removed."""
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            except OSError as error:
                raise OutputError(f"{self.path}: cannot be written ({error.strerror}); choose another place") from error
            try:
                self._take(file)
                self._mend(file)
                if os.fstat(file).st_size == 0:
                    self._write(file, _HEADER + f"{FORMAT}}}\n".encode())
                self._refresh(locked=False)
                yield file
            finally:
                os.close(file)

    def _take(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise OutputError(
                f"{self.path}: its file system has no locks ({error.strerror}); choose a local disk"
            ) from error

    def _mend(self, file: int) -> None:
        size = os.fstat(file).st_size
        end, step = size, 1 << 16
        while end > 0:
            start = max(0, end - step)
            newline = os.pread(file, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        beginning = os.pread(file, len(_HEADER), 0)
        if not _HEADER.startswith(beginning):
            return  # some other file, which the scan refuses: leave it as it is
        if end < size:
            try:
                parse_record(os.pread(file, size - end, end))
            except DataError:
                logger.warning(
                    "%s: removed %d bytes at its end, half a line of a stopped writer", self.path, size - end
                )
                os.ftruncate(file, end)
            else:
                self._write(file, b"\n")  # an editor left it out

    def _write(self, file: int, content: bytes) -> None:
        start = os.fstat(file).st_size
        try:
            while content:
                content = content[os.write(file, content) :]
        except OSError as error:
            os.ftruncate(file, start)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            remedy = "the disk is full" if full else f"cannot be written ({error.strerror})"
            raise OutputError(
                f"{self.path}: {remedy}; free some space and start again, answers so far are kept"
            ) from error

    def _scan(self, file) -> None:
        size = os.fstat(file.fileno()).st_size
        if size < self._end:
            raise DataError(f"{self.path}: became shorter while it was in use; open it again")
        if size == self._end:
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
            if self._end == 0:
                self._end = self._check_header(content)
            begin = self._end
            while (end := content.find(b"\n", begin) + 1) > 0:
                head = content[begin : min(end, begin + _HEAD)]
                if _NAMED.match(head) is None or len(head) < _HEAD:
                    number = content[:begin].count(b"\n") + 1
                    raise DataError(f"{self.path}: line {number} is not a record of texts; mend or remove it")
                self._note(head[len(_KEY) : _TEXT_AT], begin, head[_TEXT_AT:])
                begin = end
            self._end = begin
            with contextlib.suppress(DataError):
                # a last line that lacks only its end, as editors leave it; half a line is a writer's
                parse_record(content[begin:])
                self._note(
                    content[begin + len(_KEY) : begin + _TEXT_AT], begin, content[begin + _TEXT_AT : begin + _HEAD]
                )

    def _note(self, name: bytes, place: int, rest: bytes) -> None:
        failed, rejected = rest.startswith(_FAILED), rest.startswith(_REJECTED)
        known = name in self._places
        # a text is never replaced by a failure, in whatever order two writers wrote them
        if known and ((failed and name not in self._failed) or (rejected and self._state(name) == "answered")):
            return
        self._places[name] = place
        (self._failed.add if failed else self._failed.discard)(name)
        (self._rejected.add if rejected else self._rejected.discard)(name)

    def _check_header(self, content: mmap.mmap) -> int:
        end = content.find(b"\n") + 1
        header = content[:end].strip()
        version = header[len(_HEADER) : -1]
        if not header.startswith(_HEADER) or not version.isdigit():
            raise DataError(
                f"{self.path}: is not a text store; its first line should read {_HEADER.decode()}{FORMAT}}}"
            )
        if int(version) > FORMAT:
            raise DataError(
                f"{self.path}: was written by a newer clipjax (format {int(version)}, this one reads {FORMAT}); "
                "install that version"
            )
        return end

    def _read(self, file, place: int) -> TextRecord:
        file.seek(place)
        try:
            return parse_record(file.readline())
        except DataError as error:
            file.seek(0)
            number = file.read(place).count(b"\n") + 1
            raise DataError(f"{self.path}: line {number} {error}") from None


def is_store(path: str | os.PathLike) -> bool:
    """Tell whether a file begins as a store does."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_HEADER)) == _HEADER
    except OSError:
        return False


def draw(
    store: TextStore, count: int, *, wanted: Callable[[TextRecord], bool] = lambda record: True, seed: int = 0
) -> list[TextRecord]:
    """Draw at random some answered records, of those that are `wanted`."""
    keys = store.keys()
    random.Random(seed).shuffle(keys)
    found: list[TextRecord] = []
    for key in keys:
        record = store[key]
        if wanted(record):
            found.append(record)
        if len(found) == count:
            break
    return found


def merge(target: TextStore, *sources: TextStore) -> int:
    """Add the texts of other stores, and why there is none where there is none; return how many texts were added."""
    added = sum(target.append(source.records()) for source in sources)
    for source in sources:
        for state in ("rejected", "failed"):
            target.append(record for record in source.records(state=state) if not target.asked(record.key))
    return added
