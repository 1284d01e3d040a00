"""PyTorch zip archives: the tensors they name, how they are checked, and that reading only maps."""

import json
import mmap
import os
import re
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from crafted_archives import NUMBERS, archive, module, pickled, table, tensor
from numpy.testing import assert_array_equal

from clipjax.errors import CheckpointError
from clipjax.weights.torch_archive import read_torch_archive
from clipjax.weights.torch_writer import write_torch_archive


def values(path: Path) -> dict[str, list]:
    return {name: tensor.read().tolist() for name, tensor in read_torch_archive(path).items()}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "weights.pt"


def golden_archives() -> list[str]:
    states = ["state_fp16", "state_fp32", "jit_fp16"]
    return [f"{tower}_{state}.pt" for tower in ("vit", "rn") for state in states] + ["rn_wrapped_fp16.pt"]


@pytest.mark.parametrize("name", golden_archives())
def test_golden_archives_hold_the_tensors_of_their_models(shared_data, name):
    models = json.loads((shared_data / "golden/openai/models.json").read_text())
    shapes = {key: tuple(shape) for key, shape in models[name.split("_")[0]]["state_dict_shapes"].items()}
    if "fp32" in name:  # saved without the three buffers that OpenAI added for tracing
        shapes = {key: shapes[key] for key in shapes.keys() - {"input_resolution", "context_length", "vocab_size"}}
    tensors = read_torch_archive(shared_data / "golden/openai" / name)
    assert {key: stored.shape for key, stored in tensors.items()} == shapes
    assert all(stored.read().shape == stored.shape for stored in tensors.values())


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", golden_archives())
def test_golden_archives_equal_what_torch_reads(shared_data, name):
    torch = pytest.importorskip("torch")
    file = shared_data / "golden/openai" / name
    if "jit" in name:
        expected = torch.jit.load(file).state_dict()
    else:
        expected = torch.load(file, weights_only=True)
    if "wrapped" in name:
        expected = {key.removeprefix("module."): value for key, value in expected["state_dict"].items()}
    tensors = read_torch_archive(file)
    assert tensors.keys() == expected.keys()
    for key, value in expected.items():
        assert_array_equal(tensors[key].read(), value.numpy(), strict=True)


@pytest.mark.torch
def test_views_bfloat16_and_parameters_equal_what_torch_saved(path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    saved = {
        "transposed": base.t(),
        "every_second": base[1:, ::2],
        "same_storage": base[2],
        "scalar": base[3, 5],
        "empty": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(base + 0.5),
        "bfloat16": torch.linspace(0, 1, 5, dtype=torch.bfloat16),
    }
    torch.save(saved, path)
    tensors = read_torch_archive(path)
    for name, value in saved.items():
        number = tensors[name].read()
        assert (number.shape, number.dtype.name) == (
            tuple(value.shape),
            str(value.dtype).removeprefix("torch."),
        )
        assert_array_equal(number.astype(np.float64), value.detach().double().numpy())


@pytest.mark.torch
def test_a_training_checkpoint_gives_its_state_dict(path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save({"epoch": 3, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    assert_array_equal(read_torch_archive(path)["weight"].read(), model.weight.detach().numpy())


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_a_scripted_model_gives_exactly_its_state_dict(path):
    torch = pytest.importorskip("torch")

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(3)
            self.layers = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.ReLU())
            self.plain_attribute = torch.ones(2)
            self.register_buffer("buffer", torch.arange(3))

        def forward(self, x):
            return self.layers(self.norm(x)) + self.plain_attribute.sum()

    scripted = torch.jit.script(Block())
    scripted.save(str(path))
    expected = scripted.state_dict()
    tensors = read_torch_archive(path)
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert_array_equal(tensors[name].read(), value.numpy(), strict=True)


def test_where_a_storage_lay_does_not_matter(path):
    archive(path, table(w=tensor(device="cuda:0")))
    assert values(path) == {"w": NUMBERS.tolist()}


def test_nested_modules_become_dotted_names(path):
    block = module("Block", weight=tensor(), training=b"\x88", extra=b"N")
    archive(path, module("Net", scale=tensor(shape=(), strides=()), block=module("Seq", **{"0": block})))
    assert values(path) == {"scale": 0.0, "block.0.weight": NUMBERS.tolist()}


def test_tensors_that_a_class_does_not_declare_are_left_out(path):
    code = b'class Net(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = ["b", ]\n  w : Tensor\n'
    tree = module("Net", w=tensor(), b=tensor(), mask=tensor())
    archive(path, tree, {"code/__torch__.py": code})
    assert list(values(path)) == ["w", "b"]


def test_constants_are_never_read(path):
    archive(path, table(w=tensor()), {"constants.pkl": b"cos\nsystem\n.", "constants/0": b"1234"})
    assert list(values(path)) == ["w"]


def test_a_module_that_holds_itself_is_refused(path):
    archive(path, b"c__torch__\nNet\n)\x81q\x01" + table(child=b"h\x01") + b"b")
    with pytest.raises(CheckpointError, match="contain each other"):
        read_torch_archive(path)


def test_modules_that_multiply_without_end_are_refused(path):
    tree = module("Leaf", w=tensor())
    for level in range(60):
        tree = module("Pair", a=tree + b"q" + bytes([200 + level % 50]), b=b"h" + bytes([200 + level % 50]))
    archive(path, tree)
    with pytest.raises(CheckpointError, match="contain each other"):
        read_torch_archive(path)


def test_a_wrapped_state_dict_is_unwrapped_and_its_common_prefix_dropped(path):
    inner = table(**{"module.w": tensor(), "module.module.b": tensor()})
    archive(path, table(epoch=pickled(3), state_dict=inner))
    assert list(values(path)) == ["w", "module.b"]


def test_a_prefix_that_not_all_names_share_stays(path):
    archive(path, table(**{"module.w": tensor(), "b": tensor()}))
    assert list(values(path)) == ["module.w", "b"]


@pytest.mark.parametrize(
    "tree, named",
    [
        (b"](" + tensor() + b"e", "list"),
        (tensor(), "not named tensors"),
        (b"}", "no tensors"),
        (table(w=tensor(), epoch=pickled(3)), "epoch"),
        (table(model=table(w=tensor())), "model"),
        (b"}(K\x01" + tensor() + b"u", "usable name"),
        (table(**{"a\nb": tensor()}), "usable name"),
    ],
)
def test_a_pickle_without_named_tensors_is_refused(path, tree, named):
    archive(path, tree)
    with pytest.raises(CheckpointError, match=re.escape(str(path))) as refusal:
        read_torch_archive(path)
    assert named in str(refusal.value)


@pytest.mark.parametrize("offset, shape, strides", [(0, (3, 2), (2, 1)), (0, (2, 3), (1, 2)), (1, (2, 2), (3, 1))])
def test_a_strided_view_is_what_its_strides_say(path, offset, shape, strides):
    archive(path, table(w=tensor(offset=offset, shape=shape, strides=strides)))
    expected = [[NUMBERS[offset + i * strides[0] + j * strides[1]] for j in range(shape[1])] for i in range(shape[0])]
    assert values(path) == {"w": expected}


def test_the_stride_of_an_axis_of_length_one_is_arbitrary(path):
    archive(path, table(w=tensor(shape=(1, 6), strides=(2**62, 1))))
    assert values(path) == {"w": [NUMBERS.tolist()]}


@pytest.mark.parametrize(
    "layout",
    [
        {"offset": 1},
        {"offset": -1, "shape": (2,)},
        {"shape": (7,)},
        {"shape": (-1,)},
        {"shape": (3,), "strides": (3,)},
        {"shape": (3,), "strides": (-1,)},
        {"shape": (2, 2), "strides": (2**62, 2**62)},
        {"shape": (2**40,), "strides": (0,)},
        {"shape": (2**32, 2**32), "strides": (0, 0)},
        {"shape": (0, 2**62), "strides": (1, 1)},
        {"shape": (1,) * 40, "strides": (1,) * 40},
        {"shape": (2, 3), "strides": (1,)},
        {"numel": 7},
        {"numel": 5, "shape": (5,)},
        {"numel": -1, "shape": (0,)},
        {"kind": "HalfStorage"},
        {"key": "1"},
        {"key": "../0"},
        {"kind": "ComplexFloatStorage"},
    ],
)
def test_a_tensor_that_does_not_fit_its_storage_is_refused(path, layout):
    archive(path, table(w=tensor(**layout)))
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        read_torch_archive(path)


def test_a_tensor_is_a_read_only_view_of_the_mapped_file(path):
    write_torch_archive(path, {"w": NUMBERS})
    array = read_torch_archive(path)["w"].read()
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert isinstance(array.base, mmap.mmap)


def test_bfloat16_keeps_its_type(path):
    numbers = NUMBERS.astype(ml_dtypes.bfloat16)
    write_torch_archive(path, {"w": numbers})
    assert_array_equal(read_torch_archive(path)["w"].read(), numbers, strict=True)


def test_a_damaged_tensor_is_named_when_it_is_read_and_the_others_are_not_harmed(path):
    write_torch_archive(path, {"good": NUMBERS, "bad": NUMBERS + 100})
    content = bytearray(path.read_bytes())
    content[content.index((NUMBERS + 100).tobytes())] ^= 1
    path.write_bytes(content)
    tensors = read_torch_archive(path)
    assert_array_equal(tensors["good"].read(), NUMBERS)
    with pytest.raises(CheckpointError, match=r"tensor bad does not match its checksum"):
        tensors["bad"].read()


@pytest.mark.parametrize("change", ["truncate", "rewrite", "same size", "replace", "remove"])
def test_a_file_that_changes_after_opening_is_refused(path, change):
    write_torch_archive(path, {"w": NUMBERS})
    stored = read_torch_archive(path)["w"]
    if change == "truncate":
        os.truncate(path, 0)
    elif change == "rewrite":
        path.write_bytes(path.read_bytes() + b"\0")
    elif change == "same size":
        path.write_bytes(path.read_bytes().replace(NUMBERS.tobytes(), bytes(24)))
        os.utime(path, (0, 0))
    elif change == "replace":
        other = path.with_name("other.pt")
        write_torch_archive(other, {"w": NUMBERS})
        other.replace(path)
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match="while it was being read"):
        stored.read()


def test_big_endian_tensors_are_refused(path):
    archive(path, table(w=tensor()), {"byteorder": b"big"})
    with pytest.raises(CheckpointError, match="big-endian"):
        read_torch_archive(path)


def test_code_of_many_megabytes_is_refused(path):
    classes = {f"c{number}": f"c__torch__.m{number}\nNet\n)\x81}}b".encode("latin-1") for number in range(3)}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + module("Net", **classes) + b".")
        for number in range(3):
            file.writestr(f"archive/code/__torch__/m{number}.py", b" " * (6 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"code/__torch__/m\d\.py has 6291456 bytes"):
        read_torch_archive(path)


def test_modules_nested_without_end_are_refused(path):
    tree = module("Leaf", w=tensor())
    for _ in range(200):
        tree = module("Seq", child=tree)
    archive(path, tree)
    with pytest.raises(CheckpointError, match="contain each other"):
        read_torch_archive(path)


def test_a_safetensors_file_is_refused_as_such(path):
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
    with pytest.raises(CheckpointError, match="is a safetensors file"):
        read_torch_archive(path)


def test_a_directory_or_nothing_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "absent.pt"):
        with pytest.raises(CheckpointError, match=re.escape(str(place))):
            read_torch_archive(place)


def test_a_pipe_is_refused_without_waiting_for_it(path):
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="regular file"):
        read_torch_archive(path)
