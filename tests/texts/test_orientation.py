import pytest

from clipjax.texts.orientation import swapped


@pytest.mark.parametrize(
    ("sentence", "other"),
    [
        (
            "The first image shows a dog, while the second image shows a cat.",
            "The second image shows a dog, while the first image shows a cat.",
        ),
        ("The former is larger than the latter.", "The latter is larger than the former."),
        ("Image 1 is red, IMAGE 2 is blue.", "Image 2 is red, IMAGE 1 is blue."),
        ("FIRST: dark. second: bright.", "SECOND: dark. first: bright."),
    ],
)
def test_a_swapped_sentence_is_true_of_the_other_order(sentence, other):
    assert swapped(sentence) == other


def test_swapping_twice_gives_the_sentence_back():
    sentence = "In the First picture it rains; the second shows image 1 of a series."
    assert swapped(swapped(sentence) or "") == sentence


def test_a_sentence_that_names_neither_image_cannot_be_swapped():
    assert swapped("One is bright, the other dark; a secondary road, 31 images 1.") is None
