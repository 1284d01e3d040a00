"""PyTorch archives put together by hand, sound or not, without PyTorch."""

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

NUMBERS = np.arange(6, dtype=np.float32)


def pickled(value: object) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tensor(key="0", kind="FloatStorage", numel=6, offset=0, shape=(6,), strides=(1,), device="cpu") -> bytes:
    storage = pickled("storage") + f"ctorch\n{kind}\n".encode() + pickled(key) + pickled(device) + pickled(numel)
    layout = pickled(offset) + pickled(shape) + pickled(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQ" + layout + b"\x89}tR"


def table(**entries: bytes) -> bytes:
    return b"}(" + b"".join(pickled(name) + value for name, value in entries.items()) + b"u"


def module(name: str, **attributes: bytes) -> bytes:
    return f"c__torch__\n{name}\n)\x81".encode("latin-1") + table(**attributes) + b"b"


def archive(path: Path, tree: bytes, members: dict[str, bytes] | None = None) -> None:
    """Zip a pickle with the six numbers as the storage 0, and other members."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + tree + b".")
        file.writestr("archive/data/0", NUMBERS.tobytes())
        for name, content in (members or {}).items():
            file.writestr(f"archive/{name}", content)


def edit_sizes(path: Path, name: str, size: int, packed: int | None = None) -> None:
    """Make both headers of a member claim another size; `packed` where it differs."""
    content = bytearray(path.read_bytes())
    for sizes in (content.index(name.encode()) - 12, content.rindex(name.encode()) - 26):
        content[sizes : sizes + 8] = struct.pack("<II", packed or size, size)
    path.write_bytes(content)
