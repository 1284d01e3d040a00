import io

import numpy as np
import pytest
from PIL import Image

from clipjax.data.source import memory_source
from clipjax.errors import ConfigError, DataError
from clipjax.texts.prompts import read_prompts
from clipjax.texts.question import key_of
from clipjax.texts.tasks import (
    caption_questions,
    description_questions,
    difference_questions,
    group_questions,
    rewrite_questions,
    template_questions,
)
from clipjax.texts.writers.grammar import GrammarWriter

PROMPTS = read_prompts()
CAPTIONS = {f"{n}.jpg": f"a picture of {n} dogs" for n in range(12)}


@pytest.fixture(scope="module")
def source():
    encoded = []
    for shade in range(12):
        with io.BytesIO() as file:
            Image.new("RGB", (8, 8), (20 * shade,) * 3).save(file, "PNG")
            encoded.append(file.getvalue())
    return memory_source(encoded)


def shades(question):
    return [image.getpixel((0, 0))[0] // 20 for image in question.pictures()]


def test_each_image_is_asked_about_with_itself(source):
    questions = caption_questions(source, PROMPTS.ask("image-caption", "eurosat"))
    assert [question.subjects for question in questions] == [(image,) for image in source.ids]
    assert [shades(question) for question in questions] == [[n] for n in range(12)]
    assert {question.text for question in questions} == {
        "In fewer than 20 words, describe the land use that this satellite image shows."
    }


def test_a_prompt_that_names_the_class_takes_it_from_the_labels(source):
    prompt = PROMPTS.ask("image-caption", "flower102")
    labels = np.arange(12) % 2
    questions = caption_questions(source, prompt, class_names=["rose", "lily"], labels=labels)
    assert ["rose flower" in question.text for question in questions] == [label == 0 for label in labels]
    with pytest.raises(ConfigError, match="names a class"):
        caption_questions(source, prompt)


def test_groups_show_four_images_of_the_anchors_label(source):
    labels = np.array([0] * 6 + [1] * 6)
    questions = group_questions(source, PROMPTS.ask("group-caption", "dtd"), labels, seed=4)
    assert len(questions) == 12
    for anchor, question in enumerate(questions):
        assert question.subjects[0] == source.ids[anchor]
        assert len(question.subjects) == 5
        assert {n // 6 for n in shades(question)} == {labels[anchor]}
        assert [source.ids[n] for n in shades(question)] == list(question.subjects[1:])


def test_groups_may_have_another_size(source):
    questions = group_questions(source, PROMPTS.ask("group-caption", "dtd"), np.zeros(12, int), size=2)
    assert {len(question.subjects) for question in questions} == {3}
    assert {len(shades(question)) for question in questions} == {2}


def test_classes_are_asked_about_several_times():
    questions = description_questions(["owl", "cat"], PROMPTS.descriptions("caltech101"), samples=2)
    assert len(questions) == 2 * 3 * 2
    assert sum("an owl" in question.text for question in questions) == 6


def test_differences_ask_about_two_captions_or_two_images(source):
    of_captions = difference_questions(CAPTIONS, PROMPTS.ask("difference-of-captions"), 20, seed=1)
    assert len({frozenset(question.subjects) for question in of_captions}) == 20
    for question in of_captions:
        assert question.given == tuple(CAPTIONS[name] for name in question.subjects)
        assert question.text.index(question.given[0]) < question.text.index(question.given[1])
    images = dict(zip(source.ids, CAPTIONS.values()))
    of_images = difference_questions(images, PROMPTS.ask("difference-of-images"), 5, source=source)
    for question in of_images:
        assert [source.ids[n] for n in shades(question)] == list(question.subjects)
        assert question.given == ()


def test_pairs_that_are_chosen_are_asked_about_in_their_order():
    prompt, names = PROMPTS.ask("difference-of-captions"), list(CAPTIONS)
    found = difference_questions(CAPTIONS, prompt, 99, pairs=np.array([[3, 1], [0, 2]]))
    assert [question.subjects for question in found] == [(names[3], names[1]), (names[0], names[2])]


def test_pairs_that_cannot_be_made_are_refused(source):
    prompt = PROMPTS.ask("difference-of-captions")
    with pytest.raises(DataError, match="make no pair"):
        difference_questions({"a": "b"}, prompt, 3)
    with pytest.raises(DataError, match="has no image"):
        difference_questions(CAPTIONS, prompt, 3, source=source)


def test_rewrites_and_templates():
    (first, *_) = rewrite_questions(CAPTIONS, PROMPTS.ask("rewrite"))
    assert first.text.endswith(CAPTIONS["0.jpg"])
    assert len(template_questions("eurosat", PROMPTS.ask("templates", "eurosat"), samples=3)) == 3


def test_a_prompt_of_another_kind_is_refused(source):
    with pytest.raises(ConfigError, match="asks for a rewrite"):
        caption_questions(source, PROMPTS.ask("rewrite"))


def test_every_question_has_a_key_of_its_own(source):
    questions = [
        *caption_questions(source, PROMPTS.ask("image-caption")),
        *group_questions(source, PROMPTS.ask("group-caption"), np.zeros(12, int)),
        *group_questions(source, PROMPTS.ask("group-caption"), np.zeros(12, int), seed=1),
        *description_questions(["a", "b"], PROMPTS.descriptions(), samples=3),
        *difference_questions(CAPTIONS, PROMPTS.ask("difference-of-captions"), 30),
        *rewrite_questions(CAPTIONS, PROMPTS.ask("rewrite")),
        *template_questions("default", PROMPTS.ask("templates"), samples=2),
    ]
    assert len({key_of(question, GrammarWriter()) for question in questions}) == len(questions)
