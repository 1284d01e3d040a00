"""A small checkpoint, a folder of small pictures, and the command line called in this process."""

import json
from typing import NamedTuple

import pytest
from picture_folders import write_pictures
from small_models import small_clip

from clipjax.cli.main import main
from clipjax.models.config import TextConfig
from clipjax.weights.save import save

TEXT = TextConfig(49408, 16, width=24, layers=2, heads=3, mlp_width=40, bos_token_id=49406, eos_token_id=49407)


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self):
        """The one document that was printed."""
        (line,) = self.out.splitlines()
        return json.loads(line)


@pytest.fixture
def clipjax(capsys):
    """A function that runs the command line and returns its exit status, output and messages."""

    def run(*arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A small CLIP with CLIP's vocabulary, in the Hugging Face layout, without tokenizer files."""
    folder = tmp_path_factory.mktemp("checkpoints") / "small"
    save(folder, *small_clip(text=TEXT))
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Three class folders of four pictures each."""
    return write_pictures(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Pictures in train/ and test/, of plain colours."""
    root = tmp_path_factory.mktemp("data") / "divided"
    write_pictures(root / "train", seed=1, per_class=4)
    write_pictures(root / "test", seed=2, per_class=3)
    return root


@pytest.fixture
def broken_photos(tmp_path):
    """The same, with one picture cut short and one that is text."""
    folder = write_pictures(tmp_path / "broken")
    bad = folder / "green_tree" / "1.png"
    bad.write_bytes(bad.read_bytes()[:200])
    (folder / "red_panda" / "2.png").write_text("this is no picture")
    return folder


@pytest.fixture
def classes(tmp_path):
    """A file of the three class names."""
    path = tmp_path / "classes.txt"
    path.write_text("green tree\nblue sky\nred panda\n")
    return path


def assert_one_line(result, *parts, status=2):
    """Check that the command failed with one line on standard error that holds all `parts`."""
    assert result.status == status, result
    assert result.err.endswith("\n") and result.err.count("\n") == 1, result.err
    assert result.err.startswith("clipjax: ")
    for part in parts:
        assert str(part) in result.err


@pytest.fixture
def complains():
    """The check of a one-line error."""
    return assert_one_line
