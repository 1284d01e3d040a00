"""Read and write safetensors files, one or several with an index, without holding them in memory.

The header is parsed here and the data mapped, instead of asking the safetensors library: that
accepts a name listed twice, and copies every tensor (600 MB held as 600 MB and 0.8 s; mapped, nothing).
"""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from clipjax.errors import CheckpointError
from clipjax.weights.mapped_file import MappedFile, is_possible_shape, open_weight_file
from clipjax.weights.number_formats import SAFETENSORS, name_of, stored_bytes
from clipjax.weights.sniff import sniff
from clipjax.weights.stored import StoredTensor

INDEX_NAME = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 8 << 20
_LENGTH_BYTES = 8


def read_safetensors(path: str | os.PathLike) -> dict[str, StoredTensor]:
    """List the tensors of a safetensors file, in the order of their names in its header.

    Raises:
      CheckpointError: the file is something else, damaged, or its header does not describe
        every byte exactly once.
    """
    if sniff(path) != "safetensors":
        raise CheckpointError(f"{path}: is a PyTorch archive, not a safetensors file; read it as such")
    file = MappedFile(path)
    length = int.from_bytes(file.bytes_at(0, _LENGTH_BYTES), "little")
    start = _LENGTH_BYTES + length
    if start > file.size:
        raise CheckpointError(
            f"{path}: its header of {length} bytes does not fit the file of {file.size}; "
            "the file is damaged or cut short, download it again"
        )
    if length > _MAX_HEADER_BYTES:
        raise CheckpointError(f"{path}: its header of {length} bytes is too large for a list of tensors")
    header = _json_object(file.bytes_at(_LENGTH_BYTES, length), path, "its header")
    _require_text_metadata(header.pop("__metadata__", {}), path)
    spans = {name: _span(name, entry, path) for name, entry in header.items()}
    _require_cover(spans, file.size - start, path)
    return {name: _stored(name, header[name], start + begin, file) for name, (begin, _) in spans.items()}


def read_safetensors_index(path: str | os.PathLike) -> dict[str, StoredTensor]:
    """List the tensors of a checkpoint in several files, given its index file or the folder with one.

    Raises:
      CheckpointError: the index is malformed, names a file outside its folder, or does not
        agree with what the files hold.
    """
    index = Path(path) / INDEX_NAME if Path(path).is_dir() else Path(path)
    with open_weight_file(index) as file:
        text = file.read(_MAX_HEADER_BYTES + 1)
    if len(text) > _MAX_HEADER_BYTES:
        raise CheckpointError(f"{index}: is too large for an index of tensors")
    shard_of = _json_object(text, index, "the index").get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(shard, str) for shard in shard_of.values()):
        raise CheckpointError(f"{index}: has no weight_map from tensor names to file names")
    found: dict[str, StoredTensor] = {}
    for shard in sorted(set(shard_of.values())):
        if not _is_plain_file_name(shard):
            raise CheckpointError(f"{index}: names the file {shard[:200]!a}, which is not in the index's folder")
        for name, tensor in read_safetensors(index.parent / shard).items():
            if shard_of.get(name) != shard:
                raise CheckpointError(f"{index}: does not list tensor {name}, which {shard} holds")
            found[name] = tensor
    for name, shard in shard_of.items():
        if name not in found:
            raise CheckpointError(f"{index}: lists tensor {name[:200]!a} in {shard}, which does not hold it")
    return found


def write_safetensors(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Save named arrays as one safetensors file, holding one array at a time.

    Each is taken from the mapping twice, first for the header and then for its numbers.

    The metadata says `format: pt` as well, without which `transformers` refuses the file.
    Writes to `path` directly, over what is there.

    Raises:
      CheckpointError: safetensors has no such number type, or a name is not usable.
    """
    outlines = {name: (array.dtype, array.shape, array.nbytes) for name, array in tensors.items()}
    # wide types first, so that every tensor is aligned
    order = sorted(outlines, key=lambda name: (-outlines[name][0].itemsize, name))
    header: dict[str, dict] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name in order:
        dtype, shape, size = outlines[name]
        stored = name_of(dtype, SAFETENSORS)
        if stored is None or name == "__metadata__":
            raise CheckpointError(f"{path}: tensor {name} of type {dtype} cannot be held by safetensors")
        begin, end = end, end + size
        header[name] = {"dtype": stored, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for name in order:
            file.write(stored_bytes(tensors[name]).data)


def _json_object(text: bytes, path: str | os.PathLike, what: str) -> dict:
    def without_repeats(pairs: list[tuple[str, object]]) -> dict:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise CheckpointError(f"{path}: {what} lists {repeated[:200]!a} twice; the file is damaged or forged")
        return entries

    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=without_repeats)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {what} is not valid JSON ({error}); download the file again") from error
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{path}: {what} is not a JSON object; download the file again")
    return parsed


def _require_text_metadata(metadata: object, path: str | os.PathLike) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: the __metadata__ of its header is not a table of texts")


def _span(name: str, entry: object, path: str | os.PathLike) -> tuple[int, int]:
    """Return the first and last byte of a tensor's data, once its description makes sense."""
    shown = f"tensor {name[:200]!a}"
    if not name.isprintable() or not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{path}: {shown} is not described by dtype, shape and data_offsets alone")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SAFETENSORS:
        known = ", ".join(SAFETENSORS)
        raise CheckpointError(f"{path}: {shown} has an unknown number type; convert it to one of {known}")
    if not _is_counts(shape) or not is_possible_shape(shape):
        raise CheckpointError(f"{path}: {shown} has an impossible shape; the file is damaged or forged")
    if not _is_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{path}: {shown} has impossible data_offsets; the file is damaged or forged")
    if offsets[1] - offsets[0] != math.prod(shape) * SAFETENSORS[dtype].itemsize:
        raise CheckpointError(
            f"{path}: {shown} of shape {shape} and type {dtype} cannot have {offsets[1] - offsets[0]} bytes; "
            "the file is damaged or forged"
        )
    return offsets[0], offsets[1]


def _require_cover(spans: dict[str, tuple[int, int]], size: int, path: str | os.PathLike) -> None:
    """Refuse data that belong to no tensor or to two, and tensors beyond the end of the file."""
    end = 0
    for name, (begin, next_end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != end:
            what = "shares bytes with another" if begin < end else "is preceded by bytes of no tensor"
            raise CheckpointError(f"{path}: tensor {name[:200]!a} {what}; the file is damaged or forged")
        end = next_end
    if end > size:
        raise CheckpointError(
            f"{path}: is cut short, {size} bytes of tensors where its header lists {end}; download it again"
        )
    if end < size:
        raise CheckpointError(f"{path}: ends with {size - end} bytes that belong to no tensor; download it again")


def _stored(name: str, entry: dict, offset: int, file: MappedFile) -> StoredTensor:
    dtype, shape = SAFETENSORS[entry["dtype"]], tuple(entry["shape"])
    return StoredTensor(name, dtype, shape, lambda: file.array_at(offset, dtype, shape))


def _is_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def _is_plain_file_name(name: str) -> bool:
    parts = {PurePosixPath(name).name, PureWindowsPath(name).name}
    return parts == {name} and name not in ("", ".", "..") and name.isprintable()
