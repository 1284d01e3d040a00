"""Write a state dict that `torch.load(path, weights_only=True)` reads, without PyTorch.

The same zip layout as `torch.save`: uncompressed members that begin at multiples of 64 bytes,
so that readers can map them. Equal tensors give equal bytes.
"""

import math
import os
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from clipjax.errors import CheckpointError
from clipjax.weights.number_formats import TORCH_STORAGES, name_of, stored_bytes

_ROOT = "archive"
_ALIGNMENT = 64
_LOCAL_HEADER_BYTES = 30
_ZIP64_FIELD_BYTES = 20
_PADDING_FIELD = struct.Struct("<2sH")


def write_torch_archive(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Save named arrays as a PyTorch state dict, taking them from the mapping once and holding one at a time.

    Writes to `path` directly, over what is there.

    Raises:
      CheckpointError: PyTorch has no storage for an array's number type.
    """
    saved: list[tuple[str, str, tuple[int, ...]]] = []
    with Path(path).open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for key, (name, array) in enumerate(tensors.items()):
            storage = name_of(array.dtype, TORCH_STORAGES)
            if storage is None:
                raise CheckpointError(
                    f"{path}: tensor {name} has the type {array.dtype}, which PyTorch cannot hold; "
                    "convert it to float32 first"
                )
            saved.append((name, storage, array.shape))
            _write_member(archive, file.tell(), f"data/{key}", stored_bytes(array).data)
        _write_member(archive, file.tell(), "data.pkl", _pickled(saved))
        _write_member(archive, file.tell(), "byteorder", b"little")
        _write_member(archive, file.tell(), "version", b"3\n")


def _write_member(archive: zipfile.ZipFile, offset: int, name: str, content: bytes | memoryview) -> None:
    """Add a member whose local header lies at `offset`, padded so that its content is aligned."""
    info = zipfile.ZipInfo(f"{_ROOT}/{name}")
    info.file_size = len(content)
    zip64 = info.file_size * 1.05 > zipfile.ZIP64_LIMIT
    start = offset + _LOCAL_HEADER_BYTES + len(info.filename) + _PADDING_FIELD.size + zip64 * _ZIP64_FIELD_BYTES
    padding = -start % _ALIGNMENT
    info.extra = _PADDING_FIELD.pack(b"FB", padding) + b"Z" * padding
    with archive.open(info, "w", force_zip64=zip64) as member:
        member.write(content)


def _pickled(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """Pickle an OrderedDict of tensors, each the whole of its own storage, by name of its storage type."""
    ordered_dict = b"ccollections\nOrderedDict\n)R"
    parts = [b"\x80\x02", ordered_dict, b"("]
    for key, (name, storage, shape) in enumerate(tensors):
        numel = math.prod(shape)
        strides = [math.prod(max(size, 1) for size in shape[axis + 1 :]) for axis in range(len(shape))]
        parts += [_string(name), b"ctorch._utils\n_rebuild_tensor_v2\n((", _string("storage")]
        parts += [f"ctorch\n{storage}\n".encode(), _string(str(key)), _string("cpu"), _integer(numel), b"tQ"]
        parts += [_integer(0), _tuple(shape), _tuple(strides), b"\x89", ordered_dict, b"tR"]
    return b"".join([*parts, b"u."])


def _string(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _tuple(values: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
