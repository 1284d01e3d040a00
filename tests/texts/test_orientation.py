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
        ("The first image is brighter, the second darker.", "The second image is brighter, the first darker."),
        ("The first photo shows a dog, the second a cat.", "The second photo shows a dog, the first a cat."),
        ("Unlike the second, the first is blue.", "Unlike the first, the second is blue."),
        ("The 1st picture's sky is red, the 2nd one's grey.", "The 2nd picture's sky is red, the 1st one's grey."),
        ("Both the first and second images show dogs.", "Both the second and first images show dogs."),
    ],
)
def test_a_swapped_sentence_is_true_of_the_other_order(sentence, other):
    assert swapped(sentence) == other


@pytest.mark.parametrize(
    ("sentence", "other"),
    [
        (
            "The first image shows a second grade class, while the second image shows a first-class cabin.",
            "The second image shows a second grade class, while the first image shows a first-class cabin.",
        ),
        (
            "In the first, pupils of the second grade wait for a second; in the second, none do.",
            "In the second, pupils of the second grade wait for a second; in the first, none do.",
        ),
        (
            "At first glance the first image has a second dog, which the second image lacks.",
            "At first glance the second image has a second dog, which the first image lacks.",
        ),
        (
            "The first shows Second Avenue and a second-hand car, the second a house with a first floor.",
            "The second shows Second Avenue and a second-hand car, the first a house with a first floor.",
        ),
        (
            "A second image hangs on the wall of the first image, its hand moving each second, not of the second.",
            "A second image hangs on the wall of the second image, its hand moving each second, not of the first.",
        ),
        ("Image 1 shows 2 dogs, image 2 shows 1.", "Image 2 shows 2 dogs, image 1 shows 1."),
    ],
)
def test_words_that_count_something_else_stay(sentence, other):
    assert swapped(sentence) == other
    assert swapped(other) == sentence


def test_swapping_twice_gives_the_sentence_back():
    sentence = "In the First picture it rains; the second shows image 1 of a series."
    assert swapped(swapped(sentence) or "") == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "One is bright, the other dark; a secondary road, 31 images 1.",
        "Pupils of the second grade, in a second.",
        "Image 1.5 of a series.",
    ],
)
def test_a_sentence_that_names_neither_image_cannot_be_swapped(sentence):
    assert swapped(sentence) is None


@pytest.mark.parametrize(
    "sentence",
    [
        "The first bird is red, while the second image shows a blue one.",
        "The first image shows a runner who came second, the second image a crowd.",
        "The first image has the second and third dogs asleep, the second image none.",
        "The first image is of the second of May, the second image of June.",
        "The former president is in the first image, and not in the second.",
        "The first two images are darker than the second.",
    ],
)
def test_where_it_is_not_plain_what_is_counted_nothing_is_swapped(sentence):
    assert swapped(sentence) is None
