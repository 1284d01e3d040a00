"""Open a tar of images, with or without a manifest, and read its members in place.

The headers are read once; nothing is ever extracted, so a member's name is only ever a name.
"""

import os
import tarfile
import threading
import weakref
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipjax.data.layout import is_image_path, printable, read_layout
from clipjax.data.manifest import MANIFEST, manifest_source, read_manifest
from clipjax.data.source import ImageSource, name_labels
from clipjax.data.textfile import decode_text
from clipjax.errors import DataError

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"(\xb5/\xfd": "unzstd"}


class TarStore:
    """Byte ranges of one tar file, read through one descriptor that is opened when first needed."""

    def __init__(self, path: Path, offsets: list[int], sizes: list[int]):
        self.path = path
        self.offsets = offsets
        self.sizes = sizes
        self._descriptor: int | None = None
        self._opening = threading.Lock()

    def __getstate__(self) -> tuple[Path, list[int], list[int]]:
        return self.path, self.offsets, self.sizes

    def __setstate__(self, state: tuple[Path, list[int], list[int]]) -> None:
        self.__init__(*state)

    def read(self, position: int) -> bytes:
        size = self.sizes[position]
        try:
            content = os.pread(self._open(), size, self.offsets[position])
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read any more ({error.strerror or error}); "
                "the file changed while it was in use"
            ) from error
        if len(content) < size:
            raise DataError(f"{self.path}: became shorter while it was in use; write it again")
        return content

    def _open(self) -> int:
        with self._opening:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY)
                weakref.finalize(self, os.close, self._descriptor)
            return self._descriptor


def open_tar(path: str | os.PathLike) -> ImageSource:
    """Find the images in a tar; an image's id is its member name.

    With a `manifest.csv` in it, at the top or in the one folder around everything, the manifest says
    which images there are and what they show, by paths from where it lies; without, classes come
    from the folders as in `open_folder`.

    Raises:
      DataError: not a tar, a compressed, truncated or damaged one, no images in it, or a manifest
        that does not fit.
    """
    path = Path(path)
    members, status = _members(path)
    entries = {name: position for position, name in enumerate(members)}
    store = TarStore(path, [member.offset for member in members.values()], [m.size for m in members.values()])
    sizes = store.sizes
    # the members' own times are often 0, so that only the file's tells a tar that was written again
    archive = b"%d %d" % (status.st_size, status.st_mtime_ns)
    stamps = [zlib.crc32(b"%s %d %d" % (archive, member.offset, member.modified)) for member in members.values()]
    found, partial = _manifests(members)
    if found is not None:
        name, prefix = f"{path}:{found}", found.removesuffix(MANIFEST)
        manifest = read_manifest(decode_text(store.read(entries[found]), name), name)
        below = {member.removeprefix(prefix): position for member, position in entries.items()}
        return manifest_source(manifest, store, below, sizes, stamps, str(path))
    images = sorted(name for name in members if is_image_path(name))
    if not images:
        raise DataError(f"{path}: no images (jpg, png, ...) in this tar; pack image files into it")
    positions = np.array([entries[name] for name in images], np.int64)
    layout = read_layout(images)
    return ImageSource(
        name=str(path),
        store=store,
        positions=positions,
        ids=images,
        labels=layout.labels,
        classnames=layout.classnames,
        splits=layout.splits,
        sizes=np.array(sizes, np.int64)[positions],
        stamps=np.array(stamps, np.int64)[positions],
        notes=tuple(f"{path}: {name} is not used, since it lies in a part of the tar only" for name in partial[:1]),
        label_names=name_labels(layout.labels, layout.classnames, str(path)),
    )


class _Member(NamedTuple):
    offset: int
    size: int
    modified: int


def _manifests(members: Iterable[str]) -> tuple[str | None, list[str]]:
    """Find the manifest at the top, or in the folder that `tar cf set.tar set/` puts around everything.

    Returns it, and the manifests further down, which speak of a part only.
    """
    # a Mac adds hidden files of its own beside the folder
    shown = [name for name in members if not name.startswith(".")]
    found = sorted((name for name in shown if name.rpartition("/")[2] == MANIFEST), key=lambda name: name.count("/"))
    if found and all(name.startswith(found[0].removesuffix(MANIFEST)) for name in shown):
        return found[0], found[1:]
    return None, found


def _members(path: Path) -> tuple[dict[str, _Member], os.stat_result]:
    """Index the regular files of a tar by name; a name that occurs again replaces the earlier one."""
    members: dict[str, _Member] = {}
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            length = status.st_size
            _refuse_compressed(file.read(6), path)
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as archive:
                reached = -1
                for member in archive:
                    if member.offset <= reached:
                        raise DataError(f"{path}: damaged tar (a member lies before its predecessor)")
                    reached = member.offset
                    _index(members, member, length, path)
                end = archive.offset
            file.seek(end)
            tail = file.read(tarfile.BLOCKSIZE)
    except RecursionError:  # a chain of long names, each of which belongs to the next
        raise DataError(f"{path}: damaged tar (headers nested too deep); write it again") from None
    except (tarfile.TarError, EOFError, ValueError, ArithmeticError, LookupError, MemoryError) as error:
        raise DataError(f"{path}: not a readable tar ({error}); it may be truncated, write it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    # tarfile takes a damaged header for the end of the archive; only a block of zeros is one
    if tail.strip(b"\0") or len(tail) < tarfile.BLOCKSIZE:
        raise DataError(f"{path}: truncated or damaged tar (no end of archive at byte {end}); copy or write it again")
    return members, status


def _index(members: dict[str, _Member], member: tarfile.TarInfo, length: int, path: Path) -> None:
    name = printable(member.name).removeprefix("./")
    if member.islnk():
        target = members.get(printable(member.linkname).removeprefix("./"))
        if target is not None:
            members[name] = target
        return
    if not member.isreg() or member.issparse():
        return
    if member.size < 0 or member.offset_data < 0 or member.offset_data + member.size > length:
        raise DataError(
            f"{path}: truncated tar ({name} should end at byte {member.offset_data + member.size}, "
            f"the file ends at {length}); copy or write it again"
        )
    members[name] = _Member(member.offset_data, member.size, int(member.mtime))


def _refuse_compressed(start: bytes, path: Path) -> None:
    for magic, program in _COMPRESSED.items():
        if start.startswith(magic):
            raise DataError(
                f"{path}: compressed, so its images cannot be read one by one; unpack it with {program} first"
            )
    if start.startswith(b"PK"):
        raise DataError(f"{path}: a zip archive, not a tar; unpack it and give the folder")
