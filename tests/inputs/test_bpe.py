"""Byte-pair encoding against OpenAI's ids, a naive merge loop, and its own inverse."""

import json
import string
from itertools import pairwise
from pathlib import Path

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipjax.errors import DataError
from clipjax.inputs.bpe import (
    END_OF_WORD,
    END_TOKEN,
    START_TOKEN,
    BytePairs,
    clean,
    has_byte_tokens,
    published_byte_pairs,
)

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "tokenizer_ids.json").read_text())["rows"]
PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: ascii(row["text"][:20]))
def test_ids_are_those_of_the_original_tokenizer(row):
    assert published_byte_pairs().encode(row["text"]) == row["ids"]


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: ascii(row["text"][:20]))
def test_ids_decode_to_the_text_of_the_original_tokenizer(row):
    assert published_byte_pairs().decode(row["ids"]) == row["decoded"]


def test_all_golden_ids_before_truncation_have_the_recorded_number(shared_data):
    lines = (shared_data / "golden" / "tokenizer" / "openai_ids.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if "unassigned_code_points" not in row]
    encode = published_byte_pairs().encode
    assert [len(encode(row["text"])) + 2 for row in rows] == [row["untruncated_length"] for row in rows]


def test_the_published_vocabulary_ends_with_start_and_end():
    encoding = published_byte_pairs()
    assert (encoding.start_id, encoding.end_id, encoding.vocab_size) == (49_406, 49_407, 49_408)


@given(st.lists(st.text(string.ascii_letters, min_size=1, max_size=12), max_size=8))
@settings(deadline=None)
def test_words_survive_encoding_and_decoding(words):
    encoding = published_byte_pairs()
    assert encoding.decode(encoding.encode(" ".join(words))).split() == " ".join(words).lower().split()


@given(st.text(PRINTABLE, max_size=60))
@settings(deadline=None)
def test_decoding_keeps_every_visible_character(text):
    encoding = published_byte_pairs()
    assert encoding.decode(encoding.encode(text)).replace(" ", "") == clean(text).replace(" ", "")


@given(st.text(max_size=40))
@settings(deadline=None)
def test_any_text_encodes_to_ids_of_the_vocabulary(text):
    encoding = published_byte_pairs()
    assert all(0 <= index < encoding.vocab_size for index in encoding.encode(text))


@given(st.text(PRINTABLE.replace("&", ""), max_size=80))
@settings(deadline=None)
def test_plain_ascii_needs_no_repair(text):
    assert ftfy.fix_text(text) == text


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_merging_equals_the_naive_loop_for_any_table(data):
    vocabulary, merges = toy_vocabulary(), []
    parts = ["a", "b", "a" + END_OF_WORD, "b" + END_OF_WORD]
    for _ in range(data.draw(st.integers(0, 8))):
        left = data.draw(st.sampled_from([part for part in parts if not part.endswith(END_OF_WORD)]))
        right = data.draw(st.sampled_from(parts))
        merges.append((left, right))
        parts.append(left + right)
        vocabulary.setdefault(left + right, len(vocabulary))
    merges = data.draw(st.permutations(merges))
    word = data.draw(st.text("ab", min_size=1, max_size=14))
    expected = [vocabulary[token] for token in naive_merges(word, merges)]
    assert BytePairs(vocabulary, merges).encode(word) == expected


@pytest.mark.parametrize("letter", ["a", "é", "!"])
def test_a_word_of_a_megabyte_is_not_too_long(letter):
    encoding = published_byte_pairs()
    word = letter * (1_000_000 // len(letter.encode()))
    assert encoding.decode(encoding.encode(word)) == word + " "


def test_no_more_than_a_bounded_number_of_words_is_remembered(monkeypatch):
    monkeypatch.setattr("clipjax.inputs.bpe._CACHED_WORDS", 10)
    encoding = BytePairs(toy_vocabulary(), [])
    encoding.encode(" ".join(a + b for a in string.ascii_lowercase for b in string.ascii_lowercase))
    assert len(encoding._words) <= 10


def test_remembered_words_are_not_changed_by_what_callers_do_to_ids():
    encoding = BytePairs(toy_vocabulary(), [])
    ids = encoding.encode("word")
    ids.append(7)
    assert encoding.encode("word") == ids[:-1]


def test_special_tokens_of_other_names_are_recognised():
    vocabulary = toy_vocabulary() | {"<s>": 600, "</s>": 601}
    encoding = BytePairs(vocabulary, [], start="<s>", end="</s>")
    assert encoding.encode("<s>a</S>") == [600, vocabulary["a" + END_OF_WORD], 601]


def test_fingerprint_does_not_depend_on_what_was_encoded():
    used = BytePairs(toy_vocabulary(), [])
    used.encode("some words")
    assert used.fingerprint == BytePairs(toy_vocabulary(), []).fingerprint


def test_fingerprint_depends_on_the_order_of_merges():
    vocabulary = toy_vocabulary() | {"ab": 600, "bc": 601}
    merges = [("a", "b"), ("b", "c")]
    assert BytePairs(vocabulary, merges).fingerprint != BytePairs(vocabulary, merges[::-1]).fingerprint


def test_an_unknown_id_cannot_be_decoded():
    with pytest.raises(DataError, match="49408"):
        published_byte_pairs().decode([49_408])


def test_an_entity_of_thousands_of_digits_is_refused():
    with pytest.raises(DataError, match="entity"):
        clean("&#" + "1" * 5000 + ";")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"!": None}, "not CLIP's kind"),
        ({END_TOKEN: None}, "endoftext"),
        ({"!": -1}, "non-negative"),
        ({"!": "0"}, "non-negative"),
        ({"!": True}, "non-negative"),
        ({"!": 1}, "share an id"),
    ],
)
def test_a_broken_vocabulary_is_refused(change, message):
    vocabulary = {token: index for token, index in (toy_vocabulary() | change).items() if index is not None}
    with pytest.raises(ValueError, match=message):
        BytePairs(vocabulary, [])


def test_a_merge_into_an_unknown_token_is_refused():
    with pytest.raises(ValueError, match="'ab'"):
        BytePairs(toy_vocabulary(), [("a", "b")])


def test_only_byte_vocabularies_have_byte_tokens():
    assert has_byte_tokens(toy_vocabulary())
    assert not has_byte_tokens({"hello": 0})


def toy_vocabulary() -> dict[str, int]:
    """All bytes, inside a word and at its end, and the two special tokens."""
    published = published_byte_pairs()
    tokens = [published._tokens[index] for index in range(512)]
    return {token: index for index, token in enumerate([*tokens, START_TOKEN, END_TOKEN])}


def naive_merges(word: str, merges: list[tuple[str, str]]) -> list[str]:
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    tokens = [*word[:-1], word[-1] + END_OF_WORD]
    while known := [pair for pair in pairwise(tokens) if pair in ranks]:
        best = min(known, key=ranks.__getitem__)
        merged = []
        while tokens:
            step = 2 if tuple(tokens[:2]) == best else 1
            merged.append("".join(tokens[:step]))
            tokens = tokens[step:]
        tokens = merged
    return tokens
