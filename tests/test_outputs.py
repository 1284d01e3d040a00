import errno
import os
import signal

import pytest

from clipjax import outputs
from clipjax.errors import OutputError
from clipjax.outputs import check_free, check_room, new_directory, new_file, uninterrupted


def hidden(folder):
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


def test_file_appears_whole_when_the_block_ends(tmp_path):
    with new_file(tmp_path / "a" / "result.txt") as staged:
        staged.write_text("done")
        assert not (tmp_path / "a" / "result.txt").exists()
    assert (tmp_path / "a" / "result.txt").read_text() == "done"
    assert not hidden(tmp_path / "a")


def test_directory_appears_whole_when_the_block_ends(tmp_path):
    with new_directory(tmp_path / "result") as staged:
        (staged / "part").write_text("done")
        assert not (tmp_path / "result").exists()
    assert (tmp_path / "result" / "part").read_text() == "done"


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("new", [new_file, new_directory])
def test_nothing_stays_after_an_exception(new, stop, tmp_path):
    with pytest.raises(stop), new(tmp_path / "result") as staged:
        (staged if new is new_file else staged / "part").write_text("half")
        raise stop
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("new", [new_file, new_directory])
def test_what_exists_is_not_replaced_unasked(new, tmp_path):
    (tmp_path / "result").write_text("old")
    with pytest.raises(OutputError, match=r"result: exists already.*--overwrite"), new(tmp_path / "result"):
        pytest.fail("the block ran")
    assert (tmp_path / "result").read_text() == "old"


def test_dangling_link_counts_as_existing(tmp_path):
    (tmp_path / "result").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        check_free(tmp_path / "result")


@pytest.mark.parametrize("origin", ["result", "result/part", "link/part"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_the_result_is_made_from_is_never_replaced(overwrite, origin, tmp_path):
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "part").touch()
    (tmp_path / "link").symlink_to(tmp_path / "result")
    with pytest.raises(OutputError, match="which is read here"):
        check_free(tmp_path / "result", overwrite=overwrite, made_from=[tmp_path / "other", tmp_path / origin])


def test_result_may_lie_in_what_it_is_made_from(tmp_path):
    check_free(tmp_path / "result", made_from=[tmp_path])


def test_overwrite_replaces_a_file(tmp_path):
    (tmp_path / "result").write_text("old")
    with new_file(tmp_path / "result", overwrite=True) as staged:
        staged.write_text("new")
        assert (tmp_path / "result").read_text() == "old"
    assert (tmp_path / "result").read_text() == "new"


def test_overwrite_replaces_a_link_and_not_what_it_points_to(tmp_path):
    (tmp_path / "precious").write_text("old")
    (tmp_path / "result").symlink_to(tmp_path / "precious")
    with new_file(tmp_path / "result", overwrite=True) as staged:
        staged.write_text("new")
    assert (tmp_path / "precious").read_text() == "old"
    assert not (tmp_path / "result").is_symlink()


def test_overwrite_replaces_a_directory_with_all_that_is_in_it(tmp_path):
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "old").touch()
    with new_directory(tmp_path / "result", overwrite=True) as staged:
        (staged / "new").touch()
    assert [entry.name for entry in (tmp_path / "result").iterdir()] == ["new"]
    assert not hidden(tmp_path)


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_old_directory_comes_back_when_the_new_one_cannot_take_its_place(failure, tmp_path, monkeypatch):
    def fail(self, target):
        raise failure

    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "old").touch()
    monkeypatch.setattr(outputs.Path, "replace", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)), new_directory(tmp_path / "result", overwrite=True):
        pass
    assert [entry.name for entry in (tmp_path / "result").iterdir()] == ["old"]
    assert not hidden(tmp_path)


def test_file_never_replaces_a_directory(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(OutputError, match="is a directory, which a file does not replace"):
        check_free(tmp_path / "photos", "file", overwrite=True)


def test_directory_never_replaces_a_file(tmp_path):
    (tmp_path / "weights.pt").touch()
    with pytest.raises(OutputError, match="is a file, which a directory does not replace"):
        check_free(tmp_path / "weights.pt", "directory", overwrite=True)


@pytest.mark.parametrize("name", [".", "..", "../here"])
def test_working_directory_is_never_replaced(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OutputError, match="holds the working directory"):
        check_free(name, "directory", overwrite=True)


def test_devices_are_never_replaced():
    with pytest.raises(OutputError, match="is a device or a pipe"):
        check_free(os.devnull, "file", overwrite=True)


def test_place_below_a_file_is_refused_early(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"result: .*file is a file, not a directory"):
        check_free(tmp_path / "file" / "deep" / "result")


def test_place_that_is_not_writable_is_refused_early(tmp_path, monkeypatch):
    # tests may run as root, whom no permission stops
    monkeypatch.setattr(outputs.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match=r"result: .* is not writable; choose another place"):
        check_free(tmp_path / "result")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_named_and_leaves_nothing(code, tmp_path):
    with pytest.raises(OutputError, match=r"result: the disk is full .*free some space"), new_file(tmp_path / "result"):
        raise OSError(code, os.strerror(code))
    assert not list(tmp_path.iterdir())


def test_too_little_room_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(OutputError, match=r"the disk is full .* MB are needed"):
        check_room(tmp_path, 10**21)


def test_enough_room_passes(tmp_path):
    check_room(tmp_path, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_until_the_block_ends(number):
    heard, finished = [], []
    former = signal.signal(number, lambda *_: heard.append(list(finished)))
    try:
        with uninterrupted():
            signal.raise_signal(number)
            finished.append(True)
    finally:
        signal.signal(number, former)
    assert heard == [[True]]


def test_messages_name_the_final_place_and_not_the_temporary_one(tmp_path):
    with pytest.raises(OutputError) as caught, new_directory(tmp_path / "result") as staged:
        raise OutputError(f"{staged}/shard: cannot be written")
    assert str(caught.value) == f"{tmp_path}/result/shard: cannot be written"


def test_longest_file_names_can_be_written(tmp_path):
    with new_file(tmp_path / ("n" * 250 + ".npz")) as staged:
        staged.touch()
    assert (tmp_path / ("n" * 250 + ".npz")).exists()
