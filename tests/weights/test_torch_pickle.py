"""The pickle interpreter: what it builds, what it refuses, and that refusing costs nothing."""

import pickle
import struct
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipjax.errors import CheckpointError
from clipjax.weights.torch_pickle import MAX_PICKLE_BYTES, ModuleRecord, StorageRecord, read_tensor_pickle

TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nHalfStorage\nX\x01\0\0\x007"
    b"X\x03\0\0\0cpuK\x06tQK\x01K\x02\x85K\x03\x85\x89ccollections\nOrderedDict\n)RtR"
)
NAME = b"X\x01\0\0\0w"


def read(program: bytes) -> object:
    return read_tensor_pickle(b"\x80\x02" + program, "weights.pt")


def test_a_tensor_is_recorded_as_it_is_declared():
    record = read(b"}(" + NAME + TENSOR + b"u.")["w"]
    assert record.storage == StorageRecord("7", np.dtype(np.float16), 6)
    assert (record.offset, record.shape, record.strides) == (1, (2,), (3,))


def test_a_parameter_is_its_tensor():
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + TENSOR + b"\x88ccollections\nOrderedDict\n)RtR"
    assert read(parameter + b".") == read(TENSOR + b".")


def test_plain_values_survive_beside_tensors():
    values = {"epoch": 3, "loss": 0.5, "betas": (0.9, 0.98), "names": ["a", None, True], "big": 2**40, 7: {}}
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert read_tensor_pickle(pickle.dumps(values, protocol), "weights.pt") == values


def test_the_metadata_of_a_state_dict_is_left_out():
    ordered = b"ccollections\nOrderedDict\n)R"
    assert read(ordered + b"}X\x09\0\0\0_metadata" + ordered + b"sb.") == {}


def test_a_torchscript_class_becomes_an_inert_record():
    module = read(b"c__torch__.os\nsystem\n)\x81}" + NAME + TENSOR + b"sb.")
    assert isinstance(module, ModuleRecord)
    assert module.class_name == "__torch__.os.system"
    assert list(module.attributes) == ["w"]


@pytest.mark.parametrize(
    "program, named",
    [
        (b"cos\nsystem\nX\x01\0\0\0x\x85R.", "os.system"),
        (b"cbuiltins\neval\n.", "builtins.eval"),
        (b"X\x05\0\0\0torchX\x0d\0\0\0hub.os.system\x93.", "torch.hub.os.system"),
        (b"c__torch__.os.path\nsystem.x\n.", "__torch__.os.path.system.x"),
        (b"cnumpy._core.multiarray\nscalar\n.", "numpy._core.multiarray.scalar"),
        (b"ctorch._utils\n_rebuild_tensor_v3\n.", "torch._utils._rebuild_tensor_v3"),
        (b"(ios\nsystem\n.", "INST"),
        (b"(cos\nsystem\no.", "os.system"),
        (b"\x82\x01.", "EXT1"),
        (b"ctorch\nFloatStorage\n)R.", "calls"),
        (b"ctorch\nFloatStorage\n)\x81.", "makes an object"),
        (b"ctorch\nFloatStorage\n}b.", "sets the state"),
        (b"c__torch__\nNet\n)\x81N\x85b.", "sets the state"),
        (b"c__torch__\nNet\n)\x81}" + NAME + b"Nsb}b.", "sets the state"),
        ("c__torch__\nNét\n.".encode(), "__torch__.N"),
        (b"ccollections\nOrderedDict\n](X\x01\0\0\0aK\x01\x86e\x85R.", "OrderedDict"),
        (b"X\x07\0\0\0storage\x85Q.", "storage"),
        (TENSOR.replace(b"X\x01\0\0\x007", b"X\x03\0\0\x00../") + b".", "../"),
        (TENSOR.replace(b"K\x02\x85", b"G" + bytes(8) + b"\x85") + b".", "unknown way"),
        (TENSOR[:-2] + b"}K\x01K\x01stR.", "unknown way"),
        (b"}(" + NAME + b"K\x01" + NAME + b"K\x02u.", "twice"),
        (b"})K\x01s.", "tuple as key"),
        (b"\x8a\x09" + bytes(8) + b"\x01.", "64 bits"),
    ],
)
def test_anything_but_a_tensor_is_refused_with_what_it_asked_for(program, named):
    with pytest.raises(CheckpointError, match=r"^weights\.pt: .*") as refusal:
        read(program)
    assert named in str(refusal.value)


def test_no_module_is_imported_by_name():
    assert "antigravity" not in sys.modules
    with pytest.raises(CheckpointError, match=r"antigravity\.geohash"):
        read(b"cantigravity\ngeohash\n.")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "program",
    [
        b"\x8d" + struct.pack("<Q", 1 << 40) + b"abc.",  # BINUNICODE8
        b"\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",  # BINBYTES8
        b"\x96" + struct.pack("<Q", 1 << 40) + b"abc.",  # BYTEARRAY8
        b"X" + struct.pack("<I", 0xFFFFFFFF) + b"abc.",  # BINUNICODE
        b"\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"abc.",  # LONG4
        b"\x95" + struct.pack("<Q", 1 << 40) + b"}(" + NAME + b"K\x01uj\0\0\0\x7f.",  # FRAME
        b"Nr" + struct.pack("<I", 0x7FFFFFFF) + b"K\x01R.",  # LONG_BINPUT
    ],
)
def test_a_declared_length_allocates_nothing(program):
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            read(program)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_deeply_nested_key_is_refused_without_being_hashed():
    with pytest.raises(CheckpointError, match="tuple as key"):
        read(b"})" + b"\x85" * 200_000 + b"Ns.")


def test_deep_nesting_is_read_and_dropped_without_a_crash():
    assert isinstance(read(b")" + b"\x85" * 200_000 + b"."), tuple)


def test_endless_steps_are_refused():
    with pytest.raises(CheckpointError, match="steps"):
        read(b"N" * 600_000 + b".")


def test_a_pickle_too_large_for_names_and_shapes_is_refused():
    with pytest.raises(CheckpointError, match="too many"):
        read(b"N" * MAX_PICKLE_BYTES + b".")


def test_every_truncation_is_refused():
    whole = b"\x80\x02}(" + NAME + TENSOR + b"u."
    for length in range(len(whole)):
        with pytest.raises(CheckpointError):
            read_tensor_pickle(whole[:length], "weights.pt")


pieces = st.one_of(
    st.sampled_from([bytes([code]) for code in b"}()]Nut.asebRQ\x81\x85\x86\x87\x88\x93\x94h\x00q\x00K\x01"]),
    st.sampled_from([NAME, TENSOR, b"c__torch__\nA\n)\x81}b", b"ctorch\nFloatStorage\n", b"X\x07\0\0\0storage"]),
    st.binary(max_size=4),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=30))
def test_any_program_is_read_or_refused(program):
    try:
        read(b"".join(program) + b".")
    except CheckpointError as refusal:
        assert str(refusal).startswith("weights.pt: ")
