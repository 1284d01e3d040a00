import pytest

from clipjax.errors import DataError
from clipjax.evaluation import answer_accuracy, normal_answer, vqa_accuracy


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("The Two dogs", "2 dogs"),  # articles, number words, case
        ("none", "0"),
        ("ten", "10"),
        ("dont know", "don't know"),  # contractions
        ("mightntve", "mightntve"),  # not in the table
        ("somebody'd", "somebodyd"),  # in the table, odd as it is
        ("yes.", "yes"),  # a period that is in no number
        ("3.5", "3.5"),
        ("p.m.", "pm"),
        ("1,000 people", "1000 people"),  # marks vanish where a number has a comma
        ("black/white", "black white"),  # a mark between words is a space
        ("black / white", "black white"),  # one beside a space vanishes
        ("red-white, blue", "red white blue"),
        ("yes!\n", "yes"),
        ("  an\tapple ", "apple"),
        ("", ""),
    ],
)
def test_answers_are_normalised_by_the_official_rules(answer, normal):
    assert normal_answer(answer) == normal


@pytest.mark.parametrize(("agreeing", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_accuracy_leaves_each_of_ten_people_out_once(agreeing, accuracy):
    human = ["Two."] * agreeing + [f"other {i}" for i in range(10 - agreeing)]
    assert answer_accuracy("2", human) == pytest.approx(accuracy)


def test_both_sides_are_normalised():
    assert answer_accuracy("the dog's", ["a Dog's"] * 10) == 1
    assert answer_accuracy("one", ["1"] * 10) == 1


def test_questions_are_averaged():
    assert vqa_accuracy(["red", "blue"], [["red"] * 10, ["red"] * 10]) == 0.5


def test_missing_answers_are_refused():
    with pytest.raises(DataError, match="1 answers to 2 questions"):
        vqa_accuracy(["red"], [["red"] * 10] * 2)
    with pytest.raises(DataError, match="at least two human answers"):
        answer_accuracy("red", ["red"])
    with pytest.raises(DataError, match="at least two human answers"):
        answer_accuracy("red", "red")
