"""Read the tensors of a PyTorch zip archive without PyTorch: TorchScript files and saved state dicts.

Reading maps the file: a tensor costs no memory until it is copied, and its checksum is compared
when it is first read. Which of them are CLIP weights is decided elsewhere.
"""

import math
import os
import re

import numpy as np

from clipjax.errors import CheckpointError
from clipjax.weights.mapped_file import is_possible_shape
from clipjax.weights.sniff import sniff
from clipjax.weights.stored import StoredTensor
from clipjax.weights.torch_pickle import MAX_PICKLE_BYTES, ModuleRecord, TensorRecord, read_tensor_pickle
from clipjax.weights.zip_members import ZipMembers

_MAX_CODE_BYTES = 16 << 20
_MAX_ATTRIBUTES = 200_000
_MAX_DEPTH = 100
_DECLARATION = re.compile(
    r"^class (\w+)\(Module\):\n  __parameters__ = \[(.*)\]\n  __buffers__ = \[(.*)\]$",
    re.MULTILINE | re.ASCII,
)


def read_torch_archive(path: str | os.PathLike) -> dict[str, StoredTensor]:
    """List the named tensors of a `.pt` file, as `state_dict()` of the saved model would.

    The file is a TorchScript archive, a state dict, or a dictionary that holds one under
    "state_dict"; a "module." before every name of a state dict is dropped. Where a tensor lay
    (`cpu`, `cuda:0`) does not matter.

    Raises:
      CheckpointError: the file is not such an archive, asks for anything but tensors, or is
        damaged; reading one of the tensors raises it too when its bytes are damaged.
    """
    if sniff(path) != "torch-archive":
        raise CheckpointError(f"{path}: is a safetensors file, not a PyTorch archive; read it as safetensors")
    members = ZipMembers(path)
    if "data.pkl" not in members:
        raise CheckpointError(f"{path}: is a zip archive without data.pkl, so not one that PyTorch wrote")
    _require_little_endian(members)
    tree = read_tensor_pickle(members.read("data.pkl", MAX_PICKLE_BYTES), str(path))
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict | ModuleRecord):
        tree = tree["state_dict"]
    if isinstance(tree, ModuleRecord):
        records = _module_tensors(tree, members)
    else:
        records = _without_common_prefix(_dict_tensors(tree, path))
    if not records:
        raise CheckpointError(f"{path}: holds no tensors")
    return {name: _stored(name, record, members) for name, record in records.items()}


def _require_little_endian(members: ZipMembers) -> None:
    if "byteorder" in members and members.read("byteorder", limit=64).strip() != b"little":
        raise CheckpointError(
            f"{members.file.path}: was written on a big-endian machine; re-save it on a little-endian one"
        )


def _dict_tensors(tree: object, path: str | os.PathLike) -> dict[str, TensorRecord]:
    remedy = "save model.state_dict() alone, or {'state_dict': model.state_dict()}"
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: holds a {type(tree).__name__}, not named tensors; {remedy}")
    for name, value in tree.items():
        if not isinstance(name, str) or not name.isprintable():
            raise CheckpointError(f"{path}: the entry {ascii(name)[:80]} has no usable name; {remedy}")
        if not isinstance(value, TensorRecord):
            raise CheckpointError(f"{path}: the entry {name[:80]!r} is no tensor; {remedy}")
    return tree


def _without_common_prefix(records: dict[str, TensorRecord]) -> dict[str, TensorRecord]:
    prefix = "module."  # torch.nn.DataParallel and DistributedDataParallel
    if all(name.startswith(prefix) for name in records):
        return {name.removeprefix(prefix): record for name, record in records.items()}
    return records


def _module_tensors(root: ModuleRecord, members: ZipMembers) -> dict[str, TensorRecord]:
    """Flatten nested TorchScript modules to dotted names: their parameters and buffers."""
    path = members.file.path
    declared = _Declarations(members)
    records: dict[str, TensorRecord] = {}
    pending = [("", root, 0)]
    visited = 0
    while pending:
        prefix, module, depth = pending.pop()
        visited += 1 + len(module.attributes)
        # a module may appear under two names, so a crafted one can hold itself or multiply without end
        if visited > _MAX_ATTRIBUTES or depth > _MAX_DEPTH:
            raise CheckpointError(f"{path}: its modules contain each other; this is not a file that PyTorch wrote")
        names = declared.tensor_names(module.class_name)
        for name, value in module.attributes.items():
            if not isinstance(name, str) or not name.isprintable() or "." in name:
                raise CheckpointError(f"{path}: a module has the attribute {ascii(name)[:80]}, which is no name")
            if isinstance(value, ModuleRecord):
                pending.append((f"{prefix}{name}.", value, depth + 1))
            elif isinstance(value, TensorRecord) and (names is None or name in names):
                records[prefix + name] = value
    return records


class _Declarations:
    """Which attributes of a TorchScript class are parameters or buffers, by its declaration in `code/`.

    The other tensors are attributes that `state_dict()` leaves out. The code is searched for
    two lists of names and never run.
    """

    def __init__(self, members: ZipMembers):
        self._members = members
        self._budget = _MAX_CODE_BYTES
        self._known: dict[str, dict[str, set[str]]] = {}

    def tensor_names(self, class_name: str) -> set[str] | None:
        """Return the names of a class's parameters and buffers; None where it is not declared."""
        module, _, name = class_name.rpartition(".")
        member = f"code/{module.replace('.', '/')}.py"
        if member not in self._known:
            self._known[member] = self._read(member) if member in self._members else {}
        return self._known[member].get(name)

    def _read(self, member: str) -> dict[str, set[str]]:
        code = self._members.read(member, self._budget).decode("utf-8", errors="replace")
        self._budget -= self._members.size(member)
        return {
            name: set(re.findall(r'"([^"]*)"', f"{parameters},{buffers}"))
            for name, parameters, buffers in _DECLARATION.findall(code)
        }


def _stored(name: str, record: TensorRecord, members: ZipMembers) -> StoredTensor:
    """Check, in numbers only, that a tensor lies within its storage and the storage within the file."""
    storage, shape = record.storage, record.shape
    path, dtype, member, shown = members.file.path, storage.dtype, f"data/{storage.key}", name[:200]
    if member not in members:
        raise CheckpointError(f"{path}: the storage {member} of tensor {shown} is missing; download the file again")
    if members.size(member) != storage.numel * dtype.itemsize:
        raise CheckpointError(
            f"{path}: the storage {member} of tensor {shown} has {members.size(member)} bytes where "
            f"{storage.numel * dtype.itemsize} are declared; the file is damaged or forged"
        )
    if min(record.offset, *shape, *record.strides, 0) < 0:
        raise CheckpointError(f"{path}: tensor {shown} has a negative offset, size or stride")
    last = record.offset + sum((size - 1) * stride for size, stride in zip(shape, record.strides, strict=True))
    fits = 0 in shape or (last < storage.numel and math.prod(shape) <= storage.numel)
    # more elements than stored numbers: an expanded view, which could unfold to any size
    if not fits or not is_possible_shape(shape):
        raise CheckpointError(
            f"{path}: tensor {shown} of shape {shape}, strides {record.strides} and offset {record.offset} "
            f"does not fit the {storage.numel} numbers stored for it; the file is damaged or forged"
        )
    start = members.start(member) + record.offset * dtype.itemsize
    # the stride along an axis of length one is arbitrary and may not fit a machine word
    strides = tuple(
        stride * dtype.itemsize if size > 1 else 0 for size, stride in zip(shape, record.strides, strict=True)
    )

    def read() -> np.ndarray:
        if not members.intact(member):
            raise CheckpointError(
                f"{path}: tensor {shown} does not match its checksum ({member}); download the file again"
            )
        return members.file.array_at(start, dtype, shape, strides)

    return StoredTensor(name, dtype, shape, read)
