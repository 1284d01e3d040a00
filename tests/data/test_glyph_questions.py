from collections import Counter

import numpy as np
import pytest

from clipjax.data.glyph_captions import Mark, Scene
from clipjax.data.glyph_questions import KINDS, answer_to, sample_questions
from clipjax.data.glyphs import draw
from clipjax.errors import DataError

SEED = 11


@pytest.fixture(scope="module")
def questions():
    return sample_questions(60, SEED)


def scene(*marks: Mark, qualities: tuple[str, ...] = ()) -> Scene:
    return Scene(np.zeros((8, 8, 3), np.uint8), marks, "white", "", qualities)


STAR = Mark("shape", "star", "red", "small", "")
SEVEN = Mark("digit", "7", "blue", "", "")


def test_answers_are_what_the_scene_says():
    assert [answer_to(scene(STAR), kind) for kind in KINDS] == ["red", "small", "1", "star"]


def test_questions_without_one_answer_are_not_asked():
    assert [answer_to(scene(SEVEN), kind) for kind in KINDS] == ["blue", None, "1", None]
    assert [answer_to(scene(STAR, SEVEN), kind) for kind in KINDS] == [None, None, "2", None]
    assert answer_to(scene(STAR, qualities=("grayscale",)), "colour") is None


def test_each_question_is_about_an_image_of_its_own_that_is_drawn_there(questions):
    assert len({question.position for question in questions}) == len(questions) == 60
    for question in questions[::7]:
        drawn = draw(question.position, SEED)
        np.testing.assert_array_equal(question.image, drawn.image)
        assert question.answer == answer_to(drawn, question.kind)


def test_kinds_counts_and_sizes_come_equally_often(questions):
    assert Counter(question.kind for question in questions) == dict.fromkeys(KINDS, 15)
    answers = lambda kind: Counter(question.answer for question in questions if question.kind == kind)
    assert answers("count") == {"1": 5, "2": 5, "3": 5}
    assert answers("size") == {"large": 8, "small": 7}


def test_question_names_the_kind_of_its_mark(questions):
    named = [question for question in questions if question.kind in ("colour", "size")]
    assert all(draw(question.position, SEED).marks[0].kind in question.text for question in named)


def test_other_positions_give_other_images(questions):
    last = max(question.position for question in questions)
    later = sample_questions(8, SEED, first=last + 1)
    assert min(question.position for question in later) > last


def test_same_world_asks_the_same(questions):
    again = sample_questions(60, SEED)
    assert [q[0:1] + q[2:] for q in again] == [q[0:1] + q[2:] for q in questions]


def test_no_questions_are_refused():
    with pytest.raises(DataError, match="ask for at least one"):
        sample_questions(0, SEED)
