import json

import pytest

from clipjax.errors import DataError
from clipjax.texts.record import KINDS, TextRecord, parse_record

FULL = TextRecord(
    "caption",
    ("a.jpg",),
    "a dog",
    "llava",
    "photo",
    "ab12",
    {"temperature": 0},
    3,
    1,
    "2026-11-21T00:00:00Z",
    " a dog\n",
)


@pytest.mark.parametrize(
    "record",
    [
        FULL,
        TextRecord("class_description", ("red panda",), "It has a ringed tail."),
        TextRecord("difference", ("a", "b"), "The first is larger."),
        TextRecord("caption", ("a",), error="the server answered 500"),
        TextRecord("caption", ("Zürich/\u2028.jpg",), 'naïve "quotes" 🦊\nand a line'),
    ],
)
def test_a_line_reads_back_as_the_record(record):
    line = record.line()
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert parse_record(line) == record


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "rewrite"}, {"subjects": ("b.jpg",)}, {"model": "other"}, {"prompt": "other"},
        {"prompt_fingerprint": "0"}, {"decoding": {"temperature": 1}}, {"seed": 4}, {"sample": 2},
    ],
)  # fmt: skip
def test_another_question_has_another_key(change):
    assert changed(change).key != FULL.key


@pytest.mark.parametrize("change", [{"text": "a cat"}, {"time": ""}, {"raw": None}, {"text": "", "error": "none"}])
def test_another_answer_has_the_same_key(change):
    assert changed(change).key == FULL.key


def changed(change):
    import dataclasses

    return dataclasses.replace(FULL, **change)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_written(kind):
    subjects = ("a", "b") if kind == "difference" else ("a",)
    assert parse_record(TextRecord(kind, subjects, "text").line()).kind == kind


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"kind": "poem"}, "kind 'poem'"),
        ({"subjects": ()}, "name what it is about"),
        ({"subjects": ("",)}, "name what it is about"),
        ({"kind": "difference"}, "two subjects"),
        ({"text": " \n"}, "is empty"),
        ({"text": 3}, "has the text 3"),
    ],
)
def test_records_without_sense_are_refused(fields, complaint):
    with pytest.raises(DataError, match=complaint):
        TextRecord(**({"kind": "caption", "subjects": ("a",), "text": "x"} | fields))


def edited(**changes):
    return json.dumps(json.loads(FULL.line()) | changes).encode()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (edited(colour="red"), "unknown field 'colour'"),
        (edited(subjects="a.jpg"), "no list of subjects"),
        (edited(decoding=[]), "decoding that is no object"),
        (edited(subjects=["b.jpg"]), "belongs to another question"),
        (edited(text=None), "has the text None"),
        (b'{"key":"0","subjects":["a"]}', "lacks a field"),
    ],
)
def test_lines_without_sense_are_refused(line, complaint):
    with pytest.raises(DataError, match=complaint):
        parse_record(line)


def test_a_text_may_be_corrected_by_hand():
    assert parse_record(edited(text="a small dog")).text == "a small dog"
