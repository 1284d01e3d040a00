import re

import numpy as np
import pytest

from clipjax.data.glyph_captions import DIGIT_NAMES, DIGIT_TEMPLATES, Mark, Scene, captions
from clipjax.data.glyph_dice import dice_for
from clipjax.data.glyphs import draw

SEVEN = Mark("digit", "7", "red", "large", "top left", ("handwritten",))


def scene(*marks, background="blue", texture="striped", qualities=("blurry",)):
    return Scene(np.zeros((1, 1, 3), np.uint8), marks, background, texture, qualities)


def many(of, count=400):
    return [captions(of, np.random.default_rng(seed)) for seed in range(count)]


def words(text):
    return set(re.findall(r"\w+", text))


def test_a_caption_follows_from_its_generator():
    assert many(scene(SEVEN), 20) == many(scene(SEVEN), 20)


def test_captions_of_one_scene_vary():
    assert len(set(many(scene(SEVEN)))) > 100


def test_every_caption_names_the_digit_as_word_or_numeral():
    told = [words(text) & {"7", "seven"} for text in many(scene(SEVEN))]
    assert all(len(names) == 1 for names in told)
    assert {"7"} in told and {"seven"} in told


def test_some_captions_are_the_name_alone():
    assert {"7", "seven"} <= set(many(scene(SEVEN)))


@pytest.mark.parametrize("word", ["red", "large", "top left", "handwritten", "blue", "striped", "blurry"])
def test_each_attribute_is_named_by_some_captions_and_not_by_all(word):
    told = [word in text for text in many(scene(SEVEN))]
    assert 0.03 < np.mean(told) < 0.8


def test_captions_name_all_marks():
    star = Mark("shape", "star", "green", "small", "right")
    assert all("star" in text and words(text) & {"7", "seven"} for text in many(scene(SEVEN, star)))


@pytest.mark.parametrize(("name", "word"), [("B", "capital"), ("b", "lowercase")])
def test_the_case_of_a_letter_is_told_where_it_shows(name, word):
    texts = many(scene(Mark("letter", name, "red", "", "")))
    assert any(f"{word} letter {name}" in text for text in texts)


@pytest.mark.parametrize("name", ["o", "O", "x", "S"])
def test_the_case_of_a_letter_is_not_told_where_only_size_would_show_it(name):
    texts = many(scene(Mark("letter", name, "red", "", "")))
    assert not any(words(text) & {"capital", "uppercase", "lowercase"} for text in texts)


def test_nothing_is_said_that_is_not_so():
    colours = {"red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black", "white", "gray"}
    others = {"grayscale", "blurry", "noisy", "handwritten", "rotated", "outlined", "bold", "italic", "striped"}
    for position in range(500):
        drawn = draw(position, seed=1)
        true = {drawn.background, drawn.texture, *drawn.qualities}
        for mark in drawn.marks:
            true |= {mark.colour, *mark.styles}
        said = words(captions(drawn, dice_for(1, position, 1).generator)) & (colours | others)
        assert said <= true


def test_articles_fit_the_word_that_follows():
    for position in range(500):
        text = captions(draw(position, seed=2), dice_for(2, position, 1).generator)
        assert not re.search(r"(?<!letter )(?<!character )\ba [aeiou]\w|\ban [^aeiou]", text), text


def test_the_digits_have_ten_names():
    assert len(set(DIGIT_NAMES)) == 10


def test_every_template_has_one_place_for_the_name():
    assert all(template.count("{}") == 1 for template in DIGIT_TEMPLATES)
