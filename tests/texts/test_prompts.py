import json
import re

import pytest

from clipjax.errors import ClipjaxError, ConfigError
from clipjax.texts.prompts import Prompt, read_prompts
from clipjax.texts.record import KINDS

PROMPTS = read_prompts()


def test_there_is_a_question_of_every_kind():
    assert {prompt.kind for prompt in PROMPTS.questions.values()} == set(KINDS)


@pytest.mark.parametrize("dataset", PROMPTS.datasets)
@pytest.mark.parametrize("question", PROMPTS.questions)
def test_every_question_can_be_asked_of_every_data_set(question, dataset):
    prompt = PROMPTS.ask(question, dataset)
    text = prompt.fill(**dict.fromkeys(prompt.placeholders, "apple"))
    assert prompt.placeholders <= {"class", "first", "second", "caption"}
    assert "{" not in text.replace("{}", "")


@pytest.mark.parametrize("dataset", PROMPTS.datasets)
def test_every_data_set_asks_about_its_classes(dataset):
    prompts = PROMPTS.descriptions(dataset)
    assert len(prompts) >= 2
    assert all(prompt.kind == "class_description" and "class" in prompt.placeholders for prompt in prompts)


@pytest.mark.parametrize(
    ("dataset", "subject", "photo"),
    [
        ("caltech101", "object", "photo"),
        ("dtd", "texture", "photo"),
        ("eurosat", "land use", "satellite image"),
        ("fgvc_aircraft", "aircraft", "photo"),
        ("flower102", "rose flower", "photo"),
        ("food101", "rose food", "photo"),
        ("oxford_pets", "pet", "photo"),
        ("stanford_cars", "car", "photo"),
        ("sun397", "scene", "photo"),
        ("ucf101", "action of the person", "photo"),
    ],
)
def test_subjects_are_those_of_the_paper_s_code(dataset, subject, photo):
    prompt = PROMPTS.ask("image-caption", dataset)
    text = prompt.fill(**({"class": "rose"} if prompt.placeholders else {}))
    assert f"the {subject} that this {photo} shows" in text
    assert "fewer than 20 words" in text


@pytest.mark.parametrize("dataset", PROMPTS.datasets)
def test_a_group_is_never_told_its_class(dataset):
    assert PROMPTS.ask("group-caption", dataset).placeholders == set()


@pytest.mark.parametrize(("name", "phrase"), [("apple", "an apple"), ("Owl", "an Owl"), ("bird", "a bird")])
def test_the_article_fits_the_name(name, phrase):
    assert Prompt("p", "class_description", "See {a class}.").fill(**{"class": name}) == f"See {phrase}."


def test_another_wording_has_another_fingerprint():
    assert PROMPTS.ask("image-caption", "eurosat").fingerprint != PROMPTS.ask("image-caption", "dtd").fingerprint
    assert PROMPTS.ask("image-caption", "dtd").fingerprint == read_prompts().ask("image-caption", "dtd").fingerprint


@pytest.mark.parametrize(
    ("text", "values", "complaint"),
    [("See {class}.", {}, "needs a value for {class}"), ("See it.", {"class": "a"}, "has no place for {class}")],
)
def test_placeholders_that_do_not_match_are_refused(text, values, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        Prompt("p", "caption", text).fill(**values)


def test_a_value_is_not_taken_for_a_placeholder():
    prompt = Prompt("p", "difference", "{first} and {second}")
    assert prompt.fill(first="{second}", second="{}") == "{second} and {}"


def test_a_file_adds_to_the_prompts_and_replaces_them(tmp_path):
    mine = {
        "questions": {"image-caption": {"kind": "caption", "text": "What is this {subject}?"}},
        "datasets": {"tiles": {"subject": "tile"}, "eurosat": {"photo": "tile"}},
    }
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    prompts = read_prompts(tmp_path / "mine.json")
    assert prompts.ask("image-caption", "tiles").text == "What is this tile?"
    assert "these land use" not in prompts.ask("group-caption", "eurosat").text
    assert prompts.ask("image-caption", "eurosat").text == "What is this land use?"
    assert len(prompts.descriptions("tiles")) == 3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[]", "not a file of prompts"),
        ('{"prompts": {}}', "not a file of prompts"),
        ('{"questions": {"a": {"text": "x"}}}', "needs a kind"),
        ('{"questions": {"a": {"kind": "poem", "text": "x"}}}', "needs a kind"),
        ('{"questions": {"a": {"kind": "caption", "text": " "}}}', "has no text"),
        ('{"datasets": {"a": {"colour": "red"}}}', "other values"),
        ('{"datasets": {"a": {"descriptions": ["b"]}}}', "none of the questions"),
        ("{", "not valid JSON"),
    ],
)
def test_other_files_are_refused(tmp_path, content, complaint):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(ClipjaxError, match=complaint):
        read_prompts(tmp_path / "mine.json")


@pytest.mark.parametrize("ask", [lambda: PROMPTS.ask("magic"), lambda: PROMPTS.ask("rewrite", "mnist")])
def test_unknown_names_are_refused_with_those_there_are(ask):
    with pytest.raises(ConfigError, match="known are"):
        ask()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"questions": [1]}, "questions are no JSON object"),
        ({"datasets": []}, "datasets are no JSON object"),
        ({"datasets": {"mine": {"photo": 5}}}, "a value that is no text"),
        ({"datasets": {"mine": {"descriptions": 5}}}, "no list of questions"),
        (
            {"questions": {"a": {"kind": "caption", "text": "Describe the {Class}."}}},
            "'{Class}', which is no placeholder",
        ),
        (
            {"questions": {"a": {"kind": "caption", "text": "Describe the {subject"}}},
            "'{subject', which is no placeholder",
        ),
        ({"questions": {"a": {"kind": "caption", "text": "Describe the subject}"}}}, "'}', which is no placeholder"),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path, content, words):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_prompts(path)
