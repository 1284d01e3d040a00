"""Tiny synthetic images, and folders and tars of them."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """A function that encodes a small image of one colour."""

    def encode(shade: int = 0, file_format: str = "PNG", size: int = 6, mode: str = "RGB") -> bytes:
        image = Image.new("RGB", (size, size), (shade % 256, shade // 256 % 256, 7)).convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, format=file_format)
        return buffer.getvalue()

    return encode


@pytest.fixture
def make_folder(tmp_path) -> Callable[..., Path]:
    """A function that writes files, given as {relative path: bytes}, below a new folder."""

    def write(files: dict[str, bytes], name: str = "photos") -> Path:
        root = tmp_path / name
        root.mkdir()
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return root

    return write


@pytest.fixture
def pack_tar() -> Callable[[dict[str, bytes]], bytes]:
    """A function that packs files, given as {member name: bytes}, into the bytes of a tar."""

    def pack(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    return pack


@pytest.fixture
def make_tar(tmp_path, pack_tar) -> Callable[..., Path]:
    """A function that writes a tar of files, given as {member name: bytes}."""

    def write(files: dict[str, bytes], name: str = "photos.tar") -> Path:
        path = tmp_path / name
        path.write_bytes(pack_tar(files))
        return path

    return write
