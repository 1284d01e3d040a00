"""Texts as the rows that a language model learns from: captions, several captions of an image, questions.

Every text stands between the tokenizer's start and end token, as in `inputs.tokenizer`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from clipjax.errors import DataError
from clipjax.inputs.tokenizer import Tokenizer


class LanguageRows(NamedTuple):
    """Token ids, and which of them are to be predicted from what stands before them: no start token, no padding."""

    tokens: Int[np.ndarray, "*rows length"]
    learned: Bool[np.ndarray, "*rows length"]


class QuestionRows(NamedTuple):
    """Questions up to where their answers begin."""

    tokens: Int[np.ndarray, "questions length"]
    lengths: Int[np.ndarray, " questions"]


def caption_rows(captions: Sequence[Sequence[str]], tokenizer: Tokenizer, length: int) -> LanguageRows:
    """Give each caption of each image a row: [images, captions, length].

    Images with fewer captions than others have theirs again. Captions that are too long are cut.

    Raises:
      DataError: an image without a caption.
    """
    _check(captions)
    most = max(len(texts) for texts in captions)
    flat = [text for texts in captions for text in texts]
    tokens = tokenizer(flat, length)
    learned = _up_to_the_end(tokens, tokenizer.end_id)
    counts = np.array([len(texts) for texts in captions])
    rows = (np.cumsum(counts) - counts)[:, None] + np.arange(most)[None, :] % counts[:, None]
    return LanguageRows(tokens[rows], learned[rows])


def document_rows(captions: Sequence[Sequence[str]], tokenizer: Tokenizer, length: int) -> LanguageRows:
    """Give each image rows that hold its captions one after another: [images, captions, length].

    Row k begins with caption k, so that each comes first once. From a caption that is followed by others of
    its image a model learns that what stands before a text says what it is about, as an image's tokens will.

    Raises:
      DataError: an image without a caption.
    """
    _check(captions)
    most = max(len(texts) for texts in captions)
    tokens = np.full((len(captions), most, length), tokenizer.pad_id, np.int32)
    learned = np.zeros(tokens.shape, bool)
    for image, texts in enumerate(captions):
        encoded = [[tokenizer.start_id, *tokenizer.encode(text), tokenizer.end_id] for text in texts]
        for row in range(most):
            first = row % len(texts)
            ids = [(token, place > 0) for one in encoded[first:] + encoded[:first] for place, token in enumerate(one)]
            ids = ids[:length]
            tokens[image, row, : len(ids)], learned[image, row, : len(ids)] = zip(*ids)
    return LanguageRows(tokens, learned)


def answer_rows(questions: Sequence[str], answers: Sequence[str], tokenizer: Tokenizer, length: int) -> LanguageRows:
    """Give each question a row with its answer, of which the answer alone is to be learned: [questions, length].

    Raises:
      DataError: not one answer for each question, or a row that does not fit.
    """
    if len(questions) != len(answers):
        raise DataError(f"{len(questions)} questions but {len(answers)} answers; give one for each")
    asked = [_asked(question, tokenizer) for question in questions]
    answered = [[*tokenizer.encode(" " + answer), tokenizer.end_id] for answer in answers]
    tokens, _ = _padded([one + other for one, other in zip(asked, answered)], tokenizer, length)
    place = np.arange(length)[None, :]
    first = np.array([len(one) for one in asked])[:, None]
    end = first + np.array([len(one) for one in answered])[:, None]
    return LanguageRows(tokens, (place >= first) & (place < end))


def question_rows(questions: Sequence[str], tokenizer: Tokenizer, length: int) -> QuestionRows:
    """Give each question a row that an answer is to follow, as in `answer_rows`.

    Raises:
      DataError: a question that does not fit.
    """
    return QuestionRows(*_padded([_asked(question, tokenizer) for question in questions], tokenizer, length))


def _asked(question: str, tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.start_id, *tokenizer.encode(f"q: {question} a:")]


def _padded(rows: Sequence[Sequence[int]], tokenizer: Tokenizer, length: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(row) for row in rows], np.int32)
    if lengths.max(initial=0) > length:
        raise DataError(f"question {lengths.argmax()} has {lengths.max()} tokens, {length} fit; make it shorter")
    tokens = np.full((len(rows), length), tokenizer.pad_id, np.int32)
    for row, ids in zip(tokens, rows):
        row[: len(ids)] = ids
    return tokens, lengths


def _up_to_the_end(tokens: np.ndarray, end_id: int) -> np.ndarray:
    """Mark what follows the start token, up to the first end token: where both are the same one, the second."""
    place = np.arange(tokens.shape[1])
    ends = 1 + np.argmax(tokens[:, 1:] == end_id, axis=1)
    return (place > 0) & (place <= ends[:, None])


def _check(captions: Sequence[Sequence[str]]) -> None:
    for image, texts in enumerate(captions):
        if isinstance(texts, str) or not texts:
            raise DataError(f"image {image} has no list of captions; give it one or leave it out")
    if not captions:
        raise DataError("no captions to learn from; pass those of at least one image")
