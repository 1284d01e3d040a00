import pytest

from clipjax.training import manifest


@pytest.fixture
def listed(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "inside" / "b").write_bytes(b"two")
    manifest.write(tmp_path)
    return tmp_path


def test_an_unchanged_folder_has_no_damage(listed):
    assert manifest.damage(listed) is None


@pytest.mark.parametrize("content", [b"twp", b"tw", b"", b"two "])
def test_a_changed_file_is_named(listed, content):
    (listed / "inside" / "b").write_bytes(content)
    assert manifest.damage(listed) == "inside/b has changed"


def test_a_missing_file_is_named(listed):
    (listed / "a").unlink()
    assert "/a'" in manifest.damage(listed)


def test_every_change_of_the_list_itself_is_damage_or_none(listed):
    name = listed / "files.json"
    content = name.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        name.write_bytes(bytes(changed))
        assert manifest.damage(listed) is not None, bytes(changed)


def test_shares_cover_all_files(listed):
    (listed / "inside" / "b").write_bytes(b"x")
    assert [manifest.damage(listed, share=n, shares=2) is None for n in range(2)] == [True, False]


def test_files_left_out_may_change(tmp_path):
    (tmp_path / "log").write_text("begun")
    manifest.write(tmp_path, without=["log"])
    (tmp_path / "log").write_text("begun, ended")
    assert manifest.damage(tmp_path) is None
