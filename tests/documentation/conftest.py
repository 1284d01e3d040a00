"""Small files as a working directory."""

import shutil

import pytest
from pages import REPOSITORY
from small_world import write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documentation") / "world"
    folder.mkdir()
    write_world(folder)
    return folder


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A copy of the small files, with the repository's folders that pages name, as the working directory."""
    folder = shutil.copytree(world, tmp_path / "here")
    for name in ("configs", "benchmarks", "launch"):
        (folder / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(folder)
    return folder
