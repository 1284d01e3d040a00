"""The members of a PyTorch zip archive, located and verified without unpacking anything.

Knows zip, not PyTorch's pickles: one root folder, unique plain names, local headers that agree
with the directory, members that do not overlap, checksums.
"""

import io
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass

from clipjax.errors import CheckpointError
from clipjax.weights.mapped_file import MappedFile

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_MAX_DIRECTORY_BYTES = 16 << 20
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_IN_ZIP64_FIELD = 0xFFFFFFFF
_DIRECTORY_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,
    OverflowError,
    IndexError,
    struct.error,
    OSError,
)


@dataclass(frozen=True, slots=True)
class _Member:
    header: int
    start: int
    packed_size: int
    size: int
    method: int
    checksum: int


class ZipMembers:
    """A mapped zip archive whose members all lie in one folder; they are named here without it.

    Raises:
      CheckpointError: the archive is damaged or ambiguous, or a member's name leads outside it.
    """

    def __init__(self, path: str | os.PathLike):
        self.file = MappedFile(path)
        try:
            with zipfile.ZipFile(_DirectoryBytes(self.file)) as archive:
                infos = archive.infolist()
        except _DIRECTORY_ERRORS as error:
            raise self._damaged(f"is cut short or damaged, its zip directory cannot be read ({error})") from error
        self._require_plain_names([info.orig_filename for info in infos])
        self._members = {info.orig_filename.partition("/")[2]: self._located(info) for info in infos}
        self._require_disjoint()
        self._verified: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        """Return the unpacked size of a member in bytes."""
        return self._members[name].size

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a small member, unpacked and compared with its checksum.

        Raises:
          CheckpointError: the member is larger than `limit`, packed in an unknown way, or damaged.
        """
        member = self._members[name]
        if max(member.size, member.packed_size) > limit:
            raise self._refused(f"the member {name} has {member.size} bytes where at most {limit} are expected")
        content = self.file.bytes_at(member.start, member.packed_size)
        if member.method == zipfile.ZIP_DEFLATED:
            try:
                # never more than declared, whatever the stream would expand to
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.size + 1)
            except zlib.error as error:
                raise self._damaged(f"the member {name} cannot be unpacked ({error})") from error
        elif member.method != zipfile.ZIP_STORED:
            raise self._refused(f"the member {name} is packed in an unknown way; re-save the file with PyTorch")
        if len(content) != member.size or zlib.crc32(content) != member.checksum:
            raise self._damaged(f"the member {name} does not match its checksum")
        return content

    def start(self, name: str) -> int:
        """Return where in the file the bytes of a member begin that is stored as it is.

        Raises:
          CheckpointError: the member is compressed, so that it cannot be mapped.
        """
        member = self._members[name]
        if member.method != zipfile.ZIP_STORED or member.packed_size != member.size:
            raise self._refused(f"the member {name} is compressed, unlike tensors that PyTorch saved; re-save the file")
        return member.start

    def intact(self, name: str) -> bool:
        """Compare a member that is stored as it is with its checksum, the first time it is asked for."""
        if name not in self._verified:
            if self.file.crc32(self.start(name), self.size(name)) != self._members[name].checksum:
                return False
            self._verified.add(name)
        return True

    def _require_plain_names(self, paths: list[str]) -> None:
        seen: set[str] = set()
        for path in paths:
            parts = path.removesuffix("/").split("/")
            if not path.isprintable() or "\\" in path or {"", ".", ".."} & set(parts):
                raise self._refused(f"the member {_shown(path)} leads outside the archive; PyTorch did not write this")
            if path in seen:
                raise self._refused(f"holds the member {_shown(path)} twice; PyTorch did not write this")
            seen.add(path)
        roots = sorted({path.partition("/")[0] for path in paths})
        if len(roots) > 1:
            raise self._refused(
                f"has {len(roots)} root folders, such as {_shown(roots[0])} and {_shown(roots[1])}, not one"
            )

    def _located(self, info: zipfile.ZipInfo) -> _Member:
        name, offset = _shown(info.orig_filename), info.header_offset
        header = self.file.bytes_at(offset, _LOCAL_HEADER.size) if offset >= 0 else b""
        if len(header) != _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise self._damaged(f"the member {name} is not where the zip directory says")
        _, _, flags, method, _, _, checksum, packed, size, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        if (flags | info.flag_bits) & _ENCRYPTED:
            raise self._refused(f"the member {name} is encrypted; save the file without a password")
        raw_name = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
        agrees = method == info.compress_type
        agrees &= raw_name == self.file.bytes_at(offset + _LOCAL_HEADER.size, name_length)
        if not flags & _SIZES_FOLLOW:
            agrees &= checksum == info.CRC
            agrees &= packed in (info.compress_size, _IN_ZIP64_FIELD)
            agrees &= size in (info.file_size, _IN_ZIP64_FIELD)
        if not agrees:
            raise self._damaged(f"the member {name} contradicts the zip directory")
        start = offset + _LOCAL_HEADER.size + name_length + extra_length
        if start + info.compress_size > self.file.size:
            raise self._damaged(f"the member {name} runs past the end of the file")
        return _Member(offset, start, info.compress_size, info.file_size, method, info.CRC)

    def _require_disjoint(self) -> None:
        end = 0
        for member in sorted(self._members.values(), key=lambda member: member.header):
            if member.header < end:
                raise self._damaged("members of the archive overlap")
            end = member.start + member.packed_size

    def _refused(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.file.path}: {what}")

    def _damaged(self, what: str) -> CheckpointError:
        return self._refused(f"{what}; download or copy the file again")


class _DirectoryBytes(io.RawIOBase):
    """Lets `zipfile` read the directory of a mapped archive, but not gigabytes of it."""

    def __init__(self, file: MappedFile):
        self._file = file
        self._position = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise OSError("an offset before the start of the file")
        self._position = base + offset
        return self._position

    def read(self, length: int = -1) -> bytes:
        length = self._file.size - self._position if length < 0 else length
        if length > _MAX_DIRECTORY_BYTES:
            raise OSError(f"a zip directory of {length} bytes")
        content = self._file.bytes_at(self._position, length)
        self._position += len(content)
        return content


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 80 else f"{path[:77]}...")
