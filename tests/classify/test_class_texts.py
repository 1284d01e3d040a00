import json

import pytest

from clipjax.classify.class_texts import are_phrases, class_list_of, class_texts, extended_texts, join_phrase
from clipjax.data.classes import labels_for, read_classes, read_descriptions, read_templates
from clipjax.data.opening import open_source
from clipjax.data.source import memory_source
from clipjax.errors import DataError


def named(classnames, labels=None):
    return memory_source([b""] * len(classnames), labels=labels or range(len(classnames)), classnames=classnames)


def test_templates_are_filled_with_each_name_in_order():
    assert class_texts(["cat", "dog"], ["a {}.", "the {}, a {}."]) == [
        ["a cat.", "the cat, a cat."],
        ["a dog.", "the dog, a dog."],
    ]


def test_name_with_braces_is_not_filled_in_again():
    assert class_texts(["{}", "b"], ["a {}."])[0] == ["a {}."]


def test_sentences_are_used_as_they_are_and_after_the_templates():
    texts = class_texts(["cat", "dog"], ["a {}."], {"cat": ["It purrs.", "It meows!"], "dog": ["It barks."]})
    assert texts == [["a cat.", "It purrs.", "It meows!"], ["a dog.", "It barks."]]


def test_phrases_are_joined_to_the_name():
    texts = class_texts(["hen", "cat"], descriptions={"hen": ["two legs", "a red comb"], "cat": ["can purr"]})
    assert texts == [["hen, which has two legs", "hen, which is a red comb"], ["cat, which can purr"]]


@pytest.mark.parametrize(
    ("phrase", "joined"),
    [
        ("An orange beak", "hen, which has An orange beak"),
        ("an orange beak", "hen, which is an orange beak"),
        ("alternating bands", "hen, which is alternating bands"),
        ("mayflies", "hen, which mayflies"),
        ("used for eggs", "hen, which is used for eggs"),
        ("has feathers", "hen, which has feathers"),
        ("often brown", "hen, which often brown"),
        ("typically small", "hen, which typically small"),
        ("may fly", "hen, which may fly"),
        ("feathers", "hen, which has feathers"),
    ],
)
def test_phrases_are_joined_as_dclip_joins_them(phrase, joined):
    assert join_phrase("hen", phrase) == joined


def test_a_few_unfinished_sentences_are_not_phrases():
    assert not are_phrases(["It purrs.", "It meows. ", "Does it bark?", "The image shows"])


def test_every_synonym_fills_every_template():
    assert class_texts([("happy", "smiling"), "angry"], ["a {} face.", "{}!"]) == [
        ["a happy face.", "happy!", "a smiling face.", "smiling!"],
        ["a angry face.", "angry!"],
    ]


def test_published_phrases_are_joined_as_the_published_code_joins_them(shared_data):
    def published(descriptor):
        if descriptor.startswith(("a", "an")):
            return f"which is {descriptor}"
        if any(descriptor.startswith(word) for word in ("has", "often", "typically", "may", "can")):
            return f"which {descriptor}"
        return f"which is {descriptor}" if descriptor.startswith("used") else f"which has {descriptor}"

    for path in (shared_data / "data/texts/descriptions/dclip").glob("*.json"):
        for phrases in json.loads(path.read_text()).values():
            assert [join_phrase("x", phrase) for phrase in phrases] == [f"x, {published(p)}" for p in phrases]


def test_a_description_goes_behind_its_prompt():
    described = {"cat": ["It purrs.", "It sleeps."], "dog": ["It barks.", "It runs."]}
    found = extended_texts(["cat", "dog"], "This is a photo of a {}.", described, place=1)
    assert found == [["This is a photo of a cat. It sleeps."], ["This is a photo of a dog. It runs."]]
    with pytest.raises(DataError, match="the class 'dog' has 1 descriptions, not 2"):
        extended_texts(["cat", "dog"], "a {}", {**described, "dog": ["It barks."]}, place=1)


def test_neither_templates_nor_descriptions_is_an_error():
    with pytest.raises(DataError, match="no text for the classes; give a template"):
        class_texts(["cat"])


def test_class_without_a_text_is_an_error_that_names_it():
    with pytest.raises(DataError, match="no text for the class 'dog'"):
        class_texts(["cat", "dog"], descriptions={"cat": ["It purrs."]})


def test_template_saves_a_class_without_descriptions():
    assert class_texts(["cat", "dog"], ["a {}."], {"cat": ["It purrs."], "dog": []})[1] == ["a dog."]


@pytest.mark.parametrize(("file", "key"), [("susx/CuPL_prompts_eurosat.json", "eurosat"),
                                           ("cupl/texture_prompts_full.json", "dtd")])  # fmt: skip
def test_published_sentences_stand_for_themselves(file, key, shared_data):
    names = read_classes(f"{shared_data}/testbed/classes.json:{key}").names
    descriptions = read_descriptions(shared_data / "data/texts/descriptions" / file, names)
    assert class_texts(names, descriptions=descriptions) == [list(descriptions[name]) for name in names]


def test_published_phrases_begin_with_the_class_name(shared_data):
    names = read_classes(f"{shared_data}/testbed/classes.json:dtd").names
    descriptions = read_descriptions(shared_data / "data/texts/descriptions/dclip/descriptors_dtd.json", names)
    texts = class_texts(names, descriptions=descriptions)
    assert all(text.startswith(f"{name}, which ") for name, own in zip(names, texts) for text in own)


def test_published_ensemble_gives_each_class_all_templates(shared_data):
    templates = read_templates(f"{shared_data}/data/texts/templates/templates.json:dtd")
    assert [len(own) for own in class_texts(["banded", "bumpy"], templates)] == [len(templates)] * 2
    assert len(templates) > 1


def test_classes_of_a_source_are_in_label_order_with_spaces():
    classes = class_list_of(named(["sea_lion", "cat"], labels=[1, 0]))
    assert classes.names == ("cat", "sea lion")


def test_labels_match_the_classes_taken_from_the_source():
    source = named(["sea_lion", "cat", "sea_lion"], labels=[1, 0, 1])
    assert labels_for(source, class_list_of(source))[0].tolist() == [1, 0, 1]


def test_two_labels_of_one_name_are_two_classes():
    source = named(["crane", "cat", "crane"], labels=[2, 1, 0])
    classes = class_list_of(source)
    assert classes.names == ("crane (0)", "cat", "crane (2)")
    assert labels_for(source, classes)[0].tolist() == [2, 1, 0]


def test_selection_keeps_the_classes_of_which_it_has_no_image():
    assert class_list_of(named(["cat", "dog", "emu"]).select([1])).names == ("cat", "dog", "emu")


@pytest.mark.parametrize(
    ("classnames", "reason"), [(["cat"], "names 1 classes"), (["a_b", "a b"], "underscores alone")]
)
def test_source_without_two_distinct_class_names_is_an_error(classnames, reason):
    with pytest.raises(DataError, match=rf"{reason}.*--classes"):
        class_list_of(named(classnames))


def test_classes_of_a_tar_come_from_its_manifest(shared_data):
    assert (
        class_list_of(open_source(shared_data / "data/images/pacs.tar")).names
        == read_classes(f"{shared_data}/testbed/classes.json:pacs").names
    )
