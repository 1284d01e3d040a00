import numpy as np
import pytest

from clipjax.data.caption_tokens import tokenize_captions
from clipjax.errors import DataError
from clipjax.inputs.tokenizer import openai_tokenizer

LONG = "a photograph of a very " + "very " * 20 + "old castle"


@pytest.fixture(scope="module")
def tokenizer():
    return openai_tokenizer()


def test_length_is_the_least_that_cuts_no_caption(tokenizer):
    short, long = (tokenize_captions([["a cat"], [text]], tokenizer).tokens for text in ("a dog", LONG))
    assert (short.shape, long.shape) == ((2, 16), (2, 32))
    assert tokenizer.end_id in long[1]


def test_given_length_holds_for_all_and_keeps_the_end_token(tokenizer):
    tokens = tokenize_captions([[LONG], ["a cat"]], tokenizer, length=8).tokens
    assert tokens.shape == (2, 8)
    assert (tokens == tokenizer.end_id).any(axis=1).all()


def test_images_of_one_group_share_its_captions(tokenizer):
    captions = tokenize_captions([["a cat"], ["a dog"]], tokenizer, group_of=np.array([1, 0, 1]))
    assert len(captions) == 3
    assert len(captions.tokens) == 2
    rows = [captions.draw(index, np.random.default_rng(0)) for index in range(3)]
    assert np.array_equal(rows, tokenizer(["a dog", "a cat", "a dog"])[:, :16])


def test_image_without_caption_is_named(tokenizer):
    with pytest.raises(DataError, match="image 1 has no caption"):
        tokenize_captions([["a"], []], tokenizer)


@pytest.mark.parametrize("group", [2, -1])
def test_image_of_a_group_that_does_not_exist_is_named(group, tokenizer):
    with pytest.raises(DataError, match=f"image 1 belongs to group {group}"):
        tokenize_captions([["a"], ["b"]], tokenizer, group_of=np.array([0, group]))


def test_fingerprint_tells_captions_and_assignments_apart(tokenizer):
    made = [
        tokenize_captions([["a"], ["b"]], tokenizer),
        tokenize_captions([["a", "b"]], tokenizer, group_of=np.array([0, 0])),
        tokenize_captions([["a"], ["c"]], tokenizer),
        tokenize_captions([["a"], ["b"]], tokenizer, group_of=np.array([1, 0])),
    ]
    assert len({captions.fingerprint for captions in made}) == 4
