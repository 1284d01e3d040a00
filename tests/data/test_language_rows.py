import numpy as np
import pytest
from numpy.testing import assert_array_equal

from clipjax.data.language_rows import answer_rows, caption_rows, document_rows, question_rows
from clipjax.errors import DataError
from clipjax.inputs.tokenizer import openai_tokenizer

TOKENIZER = openai_tokenizer()
START, END = TOKENIZER.start_id, TOKENIZER.end_id
CAPTIONS = [["a dog", "a black dog runs"], ["two cats"]]


def learned_text(tokens, learned):
    return TOKENIZER.decode(tokens[learned]).replace("<|endoftext|>", "/ ").strip()


def test_captions_are_learned_up_to_their_end_token():
    tokens, learned = caption_rows(CAPTIONS, TOKENIZER, 8)
    assert tokens.shape == learned.shape == (2, 2, 8)
    assert [learned_text(*row) for row in zip(tokens[0], learned[0])] == ["a dog /", "a black dog runs /"]
    assert not learned[..., 0].any() and (tokens[..., 0] == START).all()


def test_image_with_fewer_captions_has_them_again():
    tokens, learned = caption_rows(CAPTIONS, TOKENIZER, 8)
    assert_array_equal(tokens[1, 0], tokens[1, 1])
    assert_array_equal(learned[1, 0], learned[1, 1])


def test_caption_that_is_cut_keeps_its_end():
    tokens, learned = caption_rows([["a black dog runs"]], TOKENIZER, 4)
    assert learned_text(tokens[0, 0], learned[0, 0]) == "a black /"


def test_document_holds_all_captions_and_each_comes_first_once():
    tokens, learned = document_rows(CAPTIONS, TOKENIZER, 16)
    found = [learned_text(*row) for row in zip(tokens[0], learned[0])]
    assert found == ["a dog / a black dog runs /", "a black dog runs / a dog /"]


def test_document_learns_no_start_token_and_no_padding():
    tokens, learned = document_rows(CAPTIONS, TOKENIZER, 16)
    assert not (tokens[learned] == START).any()
    assert learned[0, 0].sum() == 2 + 4 + 2


def test_long_document_is_cut():
    tokens, _ = document_rows(CAPTIONS, TOKENIZER, 6)
    assert_array_equal(tokens[0, 0], [START, *TOKENIZER.encode("a dog"), END, START, *TOKENIZER.encode("a")])


def test_answer_alone_is_learned():
    tokens, learned = answer_rows(["what color is it?"], ["dark red"], TOKENIZER, 20)
    assert learned_text(tokens[0], learned[0]) == "dark red /"


def test_question_is_the_row_of_its_answer_up_to_there():
    texts = ["what color is it?", "how many?"]
    asked = question_rows(texts, TOKENIZER, 20)
    whole = answer_rows(texts, ["red", "2"], TOKENIZER, 20)
    for row in range(2):
        assert_array_equal(asked.tokens[row, : asked.lengths[row]], whole.tokens[row, : asked.lengths[row]])
        assert np.flatnonzero(whole.learned[row])[0] == asked.lengths[row]


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="question 1 has 11 tokens, 9 fit"):
        question_rows(["a?", "what color is the dog?"], TOKENIZER, 9)
    with pytest.raises(DataError, match="1 questions but 2 answers"):
        answer_rows(["a?"], ["b", "c"], TOKENIZER, 9)


@pytest.mark.parametrize("rows", [caption_rows, document_rows])
def test_images_without_captions_are_refused(rows):
    with pytest.raises(DataError, match="image 1 has no list of captions"):
        rows([["a"], []], TOKENIZER, 8)
    with pytest.raises(DataError, match="no captions to learn from"):
        rows([], TOKENIZER, 8)
