"""Sentences that compare two pictures in one aspect say what is true of them."""

import numpy as np
import pytest
from PIL import Image

from clipjax.errors import ConfigError
from clipjax.texts.compared import ASPECTS, amount, chosen_aspect, comparison
from clipjax.texts.differences import clean_difference
from clipjax.texts.measured import COLOURS, measure
from clipjax.texts.orientation import swapped
from clipjax.texts.question import Question
from clipjax.texts.writers.grammar import GrammarWriter


def plain(colour):
    return Image.new("RGB", (32, 32), COLOURS[colour])


def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


def written(aspects, first, second, subjects=("a", "b")):
    question = Question("difference", subjects, "?", pictures=lambda: [first, second])
    (answer,) = GrammarWriter(aspects=aspects).answers([question])
    return answer.text


@pytest.mark.parametrize(
    ("aspect", "more", "less"),
    [
        ("light", plain("white"), plain("black")),
        ("saturation", plain("red"), plain("grey")),
        ("detail", noise(), plain("grey")),
        ("blue", plain("blue"), plain("green")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_picture_that_has_more_is_said_to_have_more(aspect, more, less):
    assert amount(measure(more), aspect) > amount(measure(less), aspect)
    assert written((aspect,), more, less) == comparison(aspect)
    assert written((aspect,), less, more) == comparison(aspect, more=False)


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("more", [True, False])
def test_every_sentence_passes_the_filter_and_can_be_told_the_other_way_round(aspect, more):
    assert clean_difference(comparison(aspect, more=more)) == (comparison(aspect, more=more), None)
    assert swapped(comparison(aspect, more=more)) not in (None, comparison(aspect, more=more))
    assert comparison(aspect, more=more) != comparison(aspect, more=not more)


def test_only_aspects_in_which_pictures_plainly_differ_are_drawn():
    first, second = measure(plain("white")), measure(plain("black"))
    drawn = {chosen_aspect(first, second, ASPECTS, str(seed)) for seed in range(200)}
    assert drawn == {"light", "white", "black"}


def test_pictures_that_hardly_differ_are_compared_in_what_differs_most():
    first, second = (measure(Image.new("RGB", (32, 32), (value, value, value))) for value in (120, 126))
    assert chosen_aspect(first, second, ("detail", "light", "red"), "any") == "light"


def test_other_aspects_are_another_writer():
    assert GrammarWriter().decoding == {}
    assert GrammarWriter(aspects=("light",)).decoding != GrammarWriter(aspects=("detail",)).decoding


def test_unknown_aspects_are_refused():
    with pytest.raises(ConfigError, match="no aspect 'size'; known are light"):
        GrammarWriter(aspects=("size",))
    with pytest.raises(ConfigError, match="no aspect 'size'"):
        amount(measure(plain("red")), "size")
