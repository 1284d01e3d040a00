"""Published files, small ones of each layout made here, and the real ones where they are at hand."""

import json

import pytest

from clipjax.errors import DataError
from clipjax.texts.importing import import_texts

COCO = {
    "images": [{"id": 7, "file_name": "7.jpg"}],
    "annotations": [{"image_id": 7, "caption": "a cat"}, {"image_id": 7, "caption": "a bed "}],
}


def found(records):
    return [(record.kind, record.subjects, record.text, record.sample) for record in records]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("image,caption\na.jpg,one, two\na.jpg,three\n", [("a.jpg", "one, two", 0), ("a.jpg", "three", 1)]),
        (json.dumps(COCO), [("7.jpg", "a cat", 0), ("7.jpg", "a bed", 1)]),
        (json.dumps({"x/a.PNG": ["one"]}), [("x/a.PNG", "one", 0)]),
    ],
)
def test_captions_in_three_layouts(tmp_path, content, expected):
    (tmp_path / "file").write_text(content)
    records = import_texts(tmp_path / "file", model="people")
    assert found(records) == [("caption", (image,), text, sample) for image, text, sample in expected]
    assert {record.model for record in records} == {"people"}
    assert len({record.key for record in records}) == len(records)


def test_descriptions_leave_empty_answers_out(tmp_path):
    (tmp_path / "file.json").write_text(
        json.dumps({"red panda": ["It has a tail. ", "", "It is red."], "sky": "Blue."})
    )
    assert found(import_texts(tmp_path / "file.json")) == [
        ("class_description", ("red panda",), "It has a tail.", 0),
        ("class_description", ("red panda",), "It is red.", 1),
        ("class_description", ("sky",), "Blue.", 0),
    ]


def test_lines_follow_the_class_list(tmp_path):
    (tmp_path / "file.txt").write_text(" A panda.\n\nBlue.\n")
    records = import_texts(tmp_path / "file.txt", classes=["panda", "ghost", "sky"])
    assert [(record.subjects[0], record.text) for record in records] == [("panda", "A panda."), ("sky", "Blue.")]


def test_kind_decides_where_both_are_possible(tmp_path):
    (tmp_path / "file.json").write_text(json.dumps({"a.jpg": ["one"], "b": ["two"]}))
    assert {record.kind for record in import_texts(tmp_path / "file.json")} == {"class_description"}
    assert {record.kind for record in import_texts(tmp_path / "file.json", kind="caption")} == {"caption"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("A panda.\n", "pass the class list"),
        ("[]", "no class descriptions"),
        ("{}", "no (captions|class descriptions)"),
        ('{"a": [1]}', "'a' is not a list of sentences"),
        ('{"a": [""]}', "holds no descriptions"),
        ('{"a": ', "not valid JSON"),
    ],
)
def test_other_files_are_refused(tmp_path, content, complaint):
    (tmp_path / "file").write_text(content)
    with pytest.raises(DataError, match=complaint):
        import_texts(tmp_path / "file")


def test_lines_that_do_not_fit_the_class_list_are_refused(tmp_path):
    (tmp_path / "file").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="2 lines for 3 classes"):
        import_texts(tmp_path / "file", classes=["a", "b", "c"])


@pytest.mark.parametrize(
    ("path", "subjects", "texts"),
    [
        ("cupl/cifar10_prompts_full.json", 10, None),
        ("susx/CuPL_prompts_eurosat.json", 10, None),
        ("lafter/Caltech101.json", 100, None),
        ("dclip/descriptors_eurosat.json", 10, None),
    ],
)
def test_published_descriptions(shared_data, path, subjects, texts):
    records = import_texts(shared_data / "data" / "texts" / "descriptions" / path)
    assert {record.kind for record in records} == {"class_description"}
    assert len({record.subjects for record in records}) == subjects
    assert len({record.key for record in records}) == len(records)


def test_published_captions(shared_data):
    records = import_texts(shared_data / "data" / "texts" / "captions" / "flickr8k_captions_all40455.csv")
    assert len(records) == 40_455
    assert len({record.subjects for record in records}) == 8_091
