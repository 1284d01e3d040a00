"""A store survives killed writers, writers beside it, full disks and people with editors."""

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipjax.errors import DataError, OutputError
from clipjax.texts.record import TextRecord
from clipjax.texts.store import TextStore, merge


def caption(number, text=None, **fields):
    return TextRecord("caption", (f"{number}.jpg",), text or f"picture {number}", **fields)


def failure(number, reason="time-out"):
    return TextRecord("caption", (f"{number}.jpg",), error=reason)


@pytest.fixture
def store(tmp_path):
    return TextStore(tmp_path / "texts.jsonl", create=True)


def test_records_come_back_in_order(store):
    records = [caption(number) for number in range(5)]
    assert store.append(records) == 5
    assert list(TextStore(store.path).records()) == records
    assert store[records[3].key] == records[3]
    assert records[3].key in store and caption(9).key not in store


def test_an_answered_question_is_not_answered_twice(store):
    assert store.append([caption(1, "first"), caption(1, "second")]) == 1
    assert store.append([caption(1, "third")]) == 0
    assert [record.text for record in store.records()] == ["first"]


def test_a_failed_question_may_be_answered_later_and_not_the_other_way_round(store):
    store.append([failure(1), failure(2)])
    assert (len(store), store.failed, caption(1).key in store) == (2, 2, False)
    store.append([caption(1)])
    assert store.append([failure(1)]) == 0
    for found in (store, TextStore(store.path)):
        assert [record.text for record in found.records()] == ["picture 1"]
        assert [record.error for record in found.records(state="failed")] == ["time-out"]


def test_records_of_one_kind(store):
    store.append([caption(1), TextRecord("template", ("photo",), "a photo of a {}.")])
    assert [record.kind for record in store.records("template")] == ["template"]


@pytest.mark.parametrize("cut", range(2, 40, 7))
def test_half_a_line_of_a_killed_writer_is_ignored_and_then_removed(store, cut):
    store.append([caption(1), caption(2)])
    content = store.path.read_bytes()
    store.path.write_bytes(content[:-cut])
    again = TextStore(store.path)
    assert [record.text for record in again.records()] == ["picture 1"]
    again.append([caption(3)])
    assert again.verify() == []
    assert [record.text for record in TextStore(store.path).records()] == ["picture 1", "picture 3"]


def test_a_last_line_without_its_end_is_completed_and_kept(store):
    store.append([caption(1), caption(2)])
    store.path.write_bytes(store.path.read_bytes()[:-1])  # as editors leave it
    again = TextStore(store.path)
    assert [record.text for record in again.records()] == ["picture 1", "picture 2"]
    again.append([caption(3)])
    assert [record.text for record in TextStore(store.path).records()] == ["picture 1", "picture 2", "picture 3"]


def test_half_a_header_is_written_anew(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b'{"clipjax te')
    store = TextStore(path, create=True)
    store.append([caption(1)])
    assert len(TextStore(path)) == 1


WRITES_MANY = """
import sys
from clipjax.texts.record import TextRecord
from clipjax.texts.store import TextStore

store, first = TextStore(sys.argv[1], create=True), int(sys.argv[2])
for number in range(first, first + 40):
    store.append([TextRecord("caption", (f"{number % 50}.jpg",), f"picture {number % 50}")])
"""


def test_several_writers_lose_nothing_and_write_nothing_twice(tmp_path):
    path = tmp_path / "texts.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITES_MANY, path, str(25 * n)]) for n in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    store = TextStore(path)
    assert store.verify() == []
    assert len(store) == 50
    assert path.read_bytes().count(b"\n") == 51


def test_a_reader_sees_what_others_add(store):
    other = TextStore(store.path)
    store.append([caption(1)])
    assert len(other) == 0
    other.refresh()
    assert len(other) == 1


KILLED = """
import sys
from clipjax.texts.record import TextRecord
from clipjax.texts.store import TextStore

store = TextStore(sys.argv[1], create=True)
print("ready", flush=True)
for number in range(10**6):
    store.append([TextRecord("caption", (str(number),), "x" * (number % 5000 + 1))])
"""


def test_a_killed_writer_leaves_every_record_before_the_last(tmp_path):
    path = tmp_path / "texts.jsonl"
    seen = 0
    for pause in (0.02, 0.1, 0.05):
        process = subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        store = TextStore(path)
        assert store.verify() == []
        numbers = [int(record.subjects[0]) for record in store.records()]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= seen
        seen = len(numbers)
    assert seen > 0


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"hello\n", "is not a text store"),
        (b'{"clipjax texts":x}\n', "is not a text store"),
        (b'{"clipjax texts":7}\n', "newer clipjax .format 7"),
        (b'{"clipjax texts":1}\nwhat is this\n', "line 2 is not a record"),
        (b'{"clipjax texts":1}\n\n', "line 2 is not a record"),
    ],
)
def test_other_files_are_refused_and_left_as_they_are(tmp_path, content, complaint):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(content)
    for create in (False, True):
        with pytest.raises(DataError, match=complaint):
            TextStore(path, create=create)
    assert path.read_bytes() == content


def test_a_store_that_is_not_there_is_not_made_unasked(tmp_path):
    with pytest.raises(DataError, match="no such text store"):
        TextStore(tmp_path / "none.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_line_edited_into_nonsense_is_named_by_its_number(store):
    store.append([caption(1), caption(2), caption(3)])
    store.path.write_bytes(store.path.read_bytes().replace(b'"picture 2"', b"picture 2"))
    found = TextStore(store.path)
    with pytest.raises(DataError, match="line 3 is not valid JSON"):
        list(found.records())
    (complaint,) = found.verify()
    assert "line 3 is not valid JSON" in complaint


def test_a_full_disk_keeps_what_was_there(store, monkeypatch):
    store.append([caption(1)])
    before = store.path.read_bytes()

    def write(file, content):
        if len(content) <= 10:
            raise OSError(28, "No space left on device")
        return real(file, content[: len(content) // 2])

    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OutputError, match="the disk is full"):
            store.append([caption(2), caption(3)])
    assert store.path.read_bytes() == before
    assert store.append([caption(2)]) == 1


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        TextStore(tmp_path / "file" / "texts.jsonl", create=True)


def test_merging_keeps_answers_over_failures(tmp_path):
    one, two = (TextStore(tmp_path / name, create=True) for name in ("one", "two"))
    one.append([caption(1), failure(2), failure(3)])
    two.append([caption(2), caption(1, "another"), failure(4)])
    assert merge(one, two) == 1
    size = one.path.stat().st_size
    assert (merge(one, two), one.path.stat().st_size) == (0, size)
    three, four = (TextStore(tmp_path / name, create=True) for name in ("three", "four"))
    three.append([TextRecord("caption", ("1.jpg",), rejected="is_short")])
    assert merge(four, three, one) == 2 and four.texts == 2
    assert sorted(record.text for record in one.records()) == ["picture 1", "picture 2"]
    assert one.failed == 2


def test_a_rejected_answer_is_an_answer_and_no_text(tmp_path):
    store = TextStore(tmp_path / "texts.jsonl", create=True)
    rejected = TextRecord("caption", ("1.jpg",), rejected="is_short", raw="a dog")
    store.append([rejected, failure(2), caption(3)])
    for found in (store, TextStore(store.path)):
        assert rejected.key in found and (found.texts, found.failed, len(found)) == (1, 1, 3)
        assert list(found.records(state="rejected")) == [rejected]
        assert found.keys() == [caption(3).key]
    assert store.append([failure(1), rejected]) == 0
    assert store.append([caption(1)]) == 1 and store.append([rejected]) == 0
    assert (store.texts, TextStore(store.path).texts) == (2, 2)


def test_keys_of_bytes_and_nested_lines_are_refused_by_their_number(store):
    store.append([caption(1), caption(2)])
    lines = store.path.read_bytes().splitlines(keepends=True)
    store.path.write_bytes(lines[0] + lines[1] + lines[2][:9] + b"\xff" + lines[2][10:])
    with pytest.raises(DataError, match="line 3 is not a record"):
        TextStore(store.path)
    deep = lines[2][:-2] + b',"decoding":' + b"[" * 100_000 + b"\n"
    store.path.write_bytes(lines[0] + lines[1] + deep)
    assert "line 3" in TextStore(store.path).verify()[0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
def test_the_store_agrees_with_a_dictionary(tmp_path_factory, asked):
    store = TextStore(tmp_path_factory.mktemp("store") / "texts.jsonl", create=True)
    expected = {}
    for number, answered in asked:
        store.append([caption(number) if answered else failure(number)])
        if answered or number not in expected:
            expected[number] = answered
    for found in (store, TextStore(store.path)):
        assert sorted(record.subjects[0] for record in found.records()) == sorted(
            f"{number}.jpg" for number, answered in expected.items() if answered
        )
        assert found.failed == sum(not answered for answered in expected.values())
