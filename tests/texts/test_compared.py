"""Sentences that compare two pictures in one aspect say what is true of them."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from clipjax.errors import ConfigError
from clipjax.texts.collected import read_texts
from clipjax.texts.compared import ASPECTS, amount, chosen_aspect, comparison, has_more
from clipjax.texts.differences import clean_difference
from clipjax.texts.generate import generate
from clipjax.texts.measured import COLOURS, measure
from clipjax.texts.orientation import swapped
from clipjax.texts.question import Question
from clipjax.texts.statistics import statistics
from clipjax.texts.store import TextStore
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


@pytest.mark.parametrize("aspects", [ASPECTS, ("light",), ()], ids=["all", "one", "none"])
def test_of_pictures_that_are_alike_nothing_is_said_and_the_question_is_rejected(aspects, tmp_path):
    alike, other = plain("grey"), Image.new("RGB", (7, 90), COLOURS["grey"])
    asked = [
        Question("difference", ("a", "b"), "?", pictures=lambda: [alike, other]),
        Question("difference", ("a", "c"), "?", pictures=lambda: [alike, plain("white")]),
    ]
    store, writer = TextStore(tmp_path / "texts", create=True), GrammarWriter(aspects=aspects)
    outcome = generate(store, writer, asked, clean={"difference": clean_difference})
    assert (outcome.answered, outcome.rejected, outcome.failed) == (1, 1, 0)
    (found,) = statistics([*store.records(state="rejected")])
    assert found.rejected == 1 and found.errors == {"are alike": 1}
    assert list(read_texts(store.path).pairs()) == [("a", "c")]
    assert generate(store, writer, asked).known == 2


def test_what_rounding_may_have_made_is_no_difference():
    grey = measure(plain("grey"))
    nearly, visibly = (dataclasses.replace(grey, light=grey.light + apart) for apart in (1e-4, 1e-2))
    assert has_more(nearly, grey, "light") is None and has_more(grey, nearly, "light") is None
    assert has_more(visibly, grey, "light") is True and has_more(grey, visibly, "light") is False


def test_a_whole_contrast_leaves_out_what_two_pictures_share():
    bright, dark = (Image.new("RGB", (32, 32), colour) for colour in ((0, 0, 250), (0, 0, 180)))
    blue = measure(bright)
    assert blue.detail == measure(dark).detail == 0 and blue.light > measure(dark).light
    text = written((), bright, dark)
    assert text.startswith("The first image is brighter, ") and "detail than" not in text


def test_equal_captions_are_no_difference():
    question = Question("difference", ("a", "b"), "?", given=("A dog.", "a dog"))
    (answer,) = GrammarWriter().answers([question])
    assert (answer.text, answer.rejected) == ("", "are_alike")


def test_other_aspects_are_another_writer():
    assert GrammarWriter().decoding == {}
    assert GrammarWriter(aspects=("light",)).decoding != GrammarWriter(aspects=("detail",)).decoding


def test_unknown_aspects_are_refused():
    with pytest.raises(ConfigError, match="no aspect 'size'; known are light"):
        GrammarWriter(aspects=("size",))
    with pytest.raises(ConfigError, match="no aspect 'size'"):
        amount(measure(plain("red")), "size")
