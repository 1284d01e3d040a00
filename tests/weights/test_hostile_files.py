"""Files made or damaged to harm their reader: refused in one line, or read, and nothing else happens."""

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_models import random_params

from clipjax.errors import CheckpointError, ClipjaxError
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig, TextConfig, ViTConfig
from clipjax.weights.assemble import Disassembled
from clipjax.weights.load import load
from clipjax.weights.names import openai_names
from clipjax.weights.safetensors_file import (
    INDEX_NAME,
    read_safetensors,
    read_safetensors_index,
    write_safetensors,
)
from clipjax.weights.sniff import sniff
from clipjax.weights.torch_archive import read_torch_archive
from clipjax.weights.torch_writer import write_torch_archive

TENSORS = {"visual.proj": np.arange(12, dtype=np.float32).reshape(3, 4), "scale": np.ones((), np.float16)}


def read_all(place: Path) -> list[np.ndarray]:
    """Read every tensor of a file or folder, by what its content says it is."""
    if place.is_dir():
        shards = (place / INDEX_NAME).exists()
        tensors = read_safetensors_index(place) if shards else read_safetensors(place / "model.safetensors")
    else:
        tensors = read_safetensors(place) if sniff(place) == "safetensors" else read_torch_archive(place)
    return [stored.read() for stored in tensors.values()]


def must_be_refused(name: str) -> bool:
    """Tell which cases the readers refuse; later ones hold sound tensors that are no CLIP."""
    number = int(name[3:5])
    return number not in (0, 10) and (number <= 35 if name.startswith("pt_") else number <= 19 or number >= 38)


def test_hostile_files_are_refused_by_name_and_leave_nothing_behind(shared_data, tmp_path, monkeypatch):
    folder = shared_data / "golden/hostile"
    monkeypatch.chdir(tmp_path)
    for case in json.loads((folder / "manifest.json").read_text())["cases"]:
        try:
            read_all(folder / case["path"])
        except CheckpointError as refusal:
            assert case["path"] in str(refusal)
            assert "\n" not in str(refusal)
            assert case["expect"] != "accept", refusal
        else:
            assert not must_be_refused(case["path"]), case
        assert list(tmp_path.iterdir()) == []


def test_a_duplicate_key_is_named(shared_data):
    with pytest.raises(CheckpointError, match=re.escape("text_model.final_layer_norm.bias")):
        read_all(shared_data / "golden/hostile/hf_08_duplicate_key")


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("valid")
    write_torch_archive(folder / "torch", TENSORS)
    write_safetensors(folder / "safetensors", TENSORS)
    return {kind: (folder / kind).read_bytes() for kind in ("torch", "safetensors")}


edits = st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(["torch", "safetensors"]),
    edits=edits,
    keep=st.none() | st.integers(0, 1 << 16),
    tail=st.binary(max_size=4),
)
def test_a_damaged_file_is_read_or_refused(valid, tmp_path_factory, kind, edits, keep, tail):
    content = bytearray(valid[kind])
    for place, patch in edits:
        place %= len(content)
        content[place : place + len(patch)] = patch
    content = content[: None if keep is None else keep % len(content)] + tail
    path = tmp_path_factory.mktemp("damaged") / "weights"
    path.write_bytes(content)
    try:
        read_all(path)
    except CheckpointError as refusal:
        assert str(path) in str(refusal)


numbers = st.integers(-2, 60) | st.sampled_from([2**31, 2**63, 2**64, -1])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
dtypes = st.sampled_from(["F32", "F16", "BF16", "I64", "F13"])
entries = st.fixed_dictionaries(
    {
        "dtype": dtypes | values,
        "shape": st.lists(numbers, max_size=3) | values,
        "data_offsets": st.lists(numbers, max_size=3),
    }
)


@settings(max_examples=200, deadline=None)
@given(
    header=st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), entries | values),
    length=st.none() | numbers,
)
def test_any_json_header_is_read_or_refused(tmp_path_factory, header, length):
    text = json.dumps(header).encode()
    length = len(text) if length is None else length % 2**64
    path = tmp_path_factory.mktemp("headers") / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + text + bytes(48))
    try:
        read_all(path)
    except CheckpointError as refusal:
        assert str(path) in str(refusal)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 1 << 16), patch=st.binary(min_size=1, max_size=3))
def test_a_damaged_pickle_behind_a_right_checksum_is_read_or_refused(valid, tmp_path_factory, place, patch):
    path = tmp_path_factory.mktemp("pickles") / "weights.pt"
    with zipfile.ZipFile(io.BytesIO(valid["torch"])) as sound, zipfile.ZipFile(path, "w") as damaged:
        for name in sound.namelist():
            content = bytearray(sound.read(name))
            if name.endswith("data.pkl"):
                start = place % len(content)
                content[start : start + len(patch)] = patch
            damaged.writestr(name, bytes(content))
    try:
        read_all(path)
    except CheckpointError as refusal:
        assert str(path) in str(refusal)


TINY = CLIP(
    CLIPConfig(
        ViTConfig(image_size=4, patch_size=2, width=64, layers=1, heads=1, mlp_width=8),
        TextConfig(9, 5, width=64, layers=1, heads=1, mlp_width=8, bos_token_id=7, eos_token_id=8),
        embed_dim=3,
    )
)
odd_tensors = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", "i4", "i8", "u1", "?"]), hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)
)
buffers = st.sampled_from(["input_resolution", "context_length", "attn_mask", "visual.position_ids", "x", "text.y"])


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return dict(Disassembled(openai_names(TINY.config), random_params(TINY)))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), odd=st.dictionaries(buffers, odd_tensors, max_size=2), packed=st.booleans())
def test_a_clip_with_odd_tensors_is_loaded_or_refused(tensors, tmp_path_factory, data, odd, packed):
    changed = dict(tensors)
    names = st.sampled_from(sorted(tensors))
    for _ in range(data.draw(st.integers(0, 2))):
        name, fate = data.draw(names), data.draw(st.sampled_from(["gone", "renamed", "odd", "swapped"]))
        tensor = changed.pop(name, np.zeros(2, np.float32))
        if fate == "renamed":
            changed[name.replace("visual", "text") + data.draw(st.sampled_from(["", ".0", "s"]))] = tensor
        elif fate == "odd":
            changed[name] = data.draw(odd_tensors)
        elif fate == "swapped":
            other = data.draw(names)
            changed |= {name: changed.get(other, tensor), other: tensor}
    path = tmp_path_factory.mktemp("odd") / "weights"
    (write_torch_archive if packed else write_safetensors)(path, changed | odd)
    try:
        load(path)
    except ClipjaxError as refusal:
        assert str(path) in str(refusal) and "\n" not in str(refusal)
