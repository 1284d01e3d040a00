"""Weight files are told apart by content, and what is no weight file is told what it is."""

import numpy as np
import pytest

from clipjax.errors import CheckpointError
from clipjax.weights.safetensors_file import write_safetensors
from clipjax.weights.sniff import sniff
from clipjax.weights.torch_writer import write_torch_archive


def test_the_name_of_a_file_does_not_matter(tmp_path):
    write_safetensors(tmp_path / "a.pt", {"w": np.ones(2)})
    write_torch_archive(tmp_path / "b.safetensors", {"w": np.ones(2)})
    assert sniff(tmp_path / "a.pt") == "safetensors"
    assert sniff(tmp_path / "b.safetensors") == "torch-archive"


@pytest.mark.parametrize(
    "content, hint",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\n <!DOCTYPE html><title>Sign in</title>", "web page"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "before 1.6"),
        (b"\x80\x04N.", "bare Python pickle"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "gzip"),
        (b"PK\x05\x06" + bytes(18), "zip"),
        (b"GGUF", "GGUF"),
        (b"hello", "neither"),
        (bytes(100), "neither"),
    ],
)
def test_what_is_no_weight_file_is_told_what_it_is(tmp_path, content, hint):
    path = tmp_path / "ViT-B-32.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"ViT-B-32\.pt") as refusal:
        sniff(path)
    assert hint in str(refusal.value)


@pytest.mark.torch
def test_the_format_before_torch_1_6_is_recognised(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"before 1\.6.*re-save"):
        sniff(tmp_path / "old.pt")
