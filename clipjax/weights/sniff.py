"""Tell what kind of weight file a path holds, from its content and never from its name."""

import os
from typing import Literal

from clipjax.errors import CheckpointError
from clipjax.weights.mapped_file import open_weight_file

_LEGACY_TORCH_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")


def sniff(path: str | os.PathLike) -> Literal["safetensors", "torch-archive"]:
    """Recognise a weight file by its first bytes; whether it is intact is for its reader to find out.

    Raises:
      CheckpointError: the file is something else; the message says what it seems to be and what to do.
    """
    with open_weight_file(path) as file:
        start = file.read(512)
    if start.startswith(b"PK\x03\x04"):
        return "torch-archive"
    # safetensors: eight bytes of header length, then JSON that begins at once
    if start[8:9] == b"{":
        return "safetensors"
    raise CheckpointError(f"{path}: {_explanation(start)}")


def _explanation(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "is empty; download or copy it again"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")):
        return "is a web page, not weights; download the file itself (a raw or resolve link)"
    if _LEGACY_TORCH_MAGIC in start[:32]:
        return (
            "is a PyTorch file of the kind before 1.6, which only unpickling can read; "
            "re-save it with a recent PyTorch, or convert it to safetensors"
        )
    if start.startswith(b"\x80"):
        return (
            "looks like a bare Python pickle, which can run programs and is never loaded; "
            "re-save the state dict with a recent PyTorch, or convert it to safetensors"
        )
    if start.startswith(b"PK"):
        return "is an empty or split zip archive, without weights"
    for magic, kind in (
        (b"\x89HDF", "an HDF5 file"),
        (b"GGUF", "a GGUF file"),
        (b"\x1f\x8b", "gzip-compressed"),
    ):
        if start.startswith(magic):
            return f"is {kind}; CLIP weights are read from safetensors or a PyTorch zip archive"
    return "is neither safetensors nor a PyTorch zip archive; is it whole, and is it the right file?"
