import pytest

from clipjax.errors import DataError
from clipjax.texts.collected import collect, read_texts
from clipjax.texts.record import TextRecord
from clipjax.texts.store import TextStore


def records():
    return [
        TextRecord("caption", ("a.jpg",), "a dog", "one"),
        TextRecord("caption", ("a.jpg",), "a brown dog", "two"),
        TextRecord("caption", ("b.jpg",), error="no answer"),
        TextRecord("group_caption", ("b.jpg", "a.jpg", "c.jpg"), "animals", "one"),
        TextRecord("template", ("pets",), "a photo of a {}.\n\n a {} outdoors. ", "one"),
        TextRecord("difference", ("a.jpg", "b.jpg"), "the first is brown", "one"),
    ]


def test_texts_are_found_by_kind_and_subject():
    texts = collect(records())
    assert texts.about("caption", ["a.jpg"]) == [("a dog", "a brown dog")]
    assert texts.about("group_caption", ["b.jpg"]) == [("animals",)]
    assert texts.about("template", ["pets"]) == [("a photo of a {}.", "a {} outdoors.")]
    assert texts.pairs() == {("a.jpg", "b.jpg"): ("the first is brown",)}
    assert collect(records(), models=["two"]).about("caption", ["a.jpg"]) == [("a brown dog",)]


def test_class_names_match_whatever_their_case_and_separators_and_first_as_they_are():
    described = {"Annual Crop Land": "rows", "sea_or_lake": "water", "Sea or Lake": "waves"}
    texts = collect(TextRecord("class_description", (name,), text, "one") for name, text in described.items())
    names = ["annual crop land", "Annual_Crop-Land", "Sea or Lake", "sea_or_lake", "SEA OR LAKE"]
    found = texts.about("class_description", names)
    assert found == [("rows",), ("rows",), ("waves",), ("water",), ("water",)]
    with pytest.raises(DataError, match="'crop land' among them"):
        texts.about("class_description", ["crop land"])


def test_a_missing_text_is_named_with_its_remedy():
    texts = collect(records())
    with pytest.raises(DataError, match=r"1 of 2 have no caption.*'b.jpg'.*ask 'image-caption'"):
        texts.about("caption", ["a.jpg", "b.jpg"])
    with pytest.raises(DataError, match="no differences"):
        collect(records()[:1]).pairs()
    with pytest.raises(DataError, match="the store: holds no texts of nobody"):
        collect(records(), models=["nobody"])


def test_the_fingerprint_is_that_of_the_texts(tmp_path):
    store = TextStore(tmp_path / "texts.jsonl", create=True)
    store.append(reversed(records()[2:]))
    store.append(records()[:2])
    read = read_texts(store.path)
    assert read.fingerprint == collect(records()).fingerprint
    assert read.fingerprint != collect(records()[1:]).fingerprint


def test_one_text_is_not_that_of_two_images():
    texts = collect(records())
    assert texts.about("caption", ["river/a.jpg"]) == [("a dog", "a brown dog")]
    with pytest.raises(DataError, match="without their folders"):
        texts.about("caption", ["river/a.jpg", "forest/a.jpg"])
