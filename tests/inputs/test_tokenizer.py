"""Rows of token ids, and which tokenizer a checkpoint gets."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipjax.errors import CheckpointError, ConfigError, DataError
from clipjax.inputs.tokenizer import Tokenizer, load_tokenizer, openai_tokenizer, tokenize

START, END = 49_406, 49_407


def test_rows_are_openai_s_for_every_golden_string(shared_data):
    lines = (shared_data / "golden" / "tokenizer" / "openai_ids.jsonl").read_text(encoding="utf-8").splitlines()
    # The split of unassigned code points follows the Unicode tables of the regex library in use.
    rows = [row for row in map(json.loads, lines) if "unassigned_code_points" not in row]
    expected = [row["ids"] + [0] * (77 - len(row["ids"])) for row in rows]
    np.testing.assert_array_equal(tokenize([row["text"] for row in rows]), expected)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4), st.integers(3, 40))
@settings(deadline=None)
def test_every_row_starts_ends_and_is_padded_with_zeros(texts, context_length):
    rows = tokenize(texts, context_length)
    assert (rows.dtype, rows.shape) == (np.int32, (len(texts), context_length))
    for text, row in zip(texts, rows):
        used = min(len(openai_tokenizer().encode(text)) + 2, context_length)
        assert (row[0], row[used - 1]) == (START, END)
        assert not row[used:].any()


@given(st.text("abc ", max_size=80), st.integers(3, 20))
@settings(deadline=None)
def test_truncation_keeps_the_end_token_and_the_first_tokens(text, context_length):
    ids = openai_tokenizer().encode(text)
    (row,) = tokenize(text, context_length)
    kept = min(len(ids), context_length - 2)
    assert row[: kept + 2].tolist() == [START, *ids[:kept], END]


def test_truncated_tells_exactly_which_texts_lose_tokens():
    texts = ["a " * number for number in range(6)]
    assert openai_tokenizer().truncated(texts, 5).tolist() == [False, False, False, False, True, True]


def test_one_text_is_a_batch_of_one():
    np.testing.assert_array_equal(tokenize("a photo"), tokenize(["a photo"]))


def test_the_context_length_is_77_unless_told():
    assert openai_tokenizer()(["a"]).shape == tokenize(["a"]).shape == (1, 77)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no texts"),
        ((), "no texts"),
        (None, "NoneType"),
        (b"a", "bytes"),
        (["a", 1], "int"),
        ([b"a"], "bytes"),
        (3, "int"),
    ],
)
def test_what_is_not_text_is_refused(texts, message):
    with pytest.raises(DataError, match=message):
        tokenize(texts)


@pytest.mark.parametrize("context_length", [2, 0, -1, 2.5, "77", True])
def test_a_context_length_without_room_is_refused(context_length):
    with pytest.raises(DataError, match="context length"):
        tokenize("a", context_length)


def test_equal_tokenizers_are_one_key():
    tokenizer = openai_tokenizer()
    again = pickle.loads(pickle.dumps(tokenizer))
    assert {tokenizer: "found"}[again] == "found"


def test_another_context_length_is_another_tokenizer():
    tokenizer = openai_tokenizer()
    shorter = dataclasses.replace(tokenizer, context_length=24)
    assert shorter != tokenizer
    assert shorter("a").shape == (1, 24)


def test_the_testbed_has_openai_s_ids_and_a_context_of_32(shared_data):
    tokenizer = load_tokenizer(shared_data / "testbed")
    texts = ["a centered satellite photo of river.", "caf&eacute; " * 40]
    np.testing.assert_array_equal(tokenizer(texts), tokenize(texts, 32))
    assert tokenizer == dataclasses.replace(openai_tokenizer(), context_length=32)


def test_a_weights_file_gets_the_tokenizer_of_its_directory(shared_data):
    testbed = shared_data / "testbed"
    assert load_tokenizer(testbed / "model.safetensors") == load_tokenizer(testbed)


def test_a_pt_file_gets_openai_s_tokenizer_whatever_lies_beside_it(tmp_path):
    (tmp_path / "config.json").write_text('{"text_config": {"vocab_size": 20}}')
    (tmp_path / "model.pt").touch()
    assert load_tokenizer(tmp_path / "model.pt") == openai_tokenizer()


@pytest.mark.parametrize(
    ("file", "content", "context_length"),
    [
        ("config.json", {"text_config": {"max_position_embeddings": 32}}, 32),
        ("config.json", {"model_type": "clip_text_model", "max_position_embeddings": 16}, 16),
        ("config.json", {"text_config": {}}, 77),
        (
            "open_clip_config.json",
            {"model_cfg": {"text_cfg": {"context_length": 64, "vocab_size": 49408}}},
            64,
        ),
        ("clipjax.json", {"config": {"text": {"context_length": 24, "vocab_size": 49408}}}, 24),
        ("tokenizer_config.json", {"model_max_length": 40}, 40),
        ("tokenizer_config.json", {"model_max_length": 10**30}, 77),
    ],
)
def test_the_context_length_is_the_checkpoint_s(tmp_path, file, content, context_length):
    (tmp_path / file).write_text(json.dumps(content))
    assert load_tokenizer(tmp_path) == dataclasses.replace(openai_tokenizer(), context_length=context_length)


def test_the_model_s_context_wins_over_the_tokenizer_s(tmp_path):
    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 248}}')
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 77}')
    assert load_tokenizer(tmp_path).context_length == 248


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", {"text_config": {"vocab_size": 20}}),
        ("open_clip_config.json", {"model_cfg": {"text_cfg": {"vocab_size": 64000}}}),
        ("clipjax.json", {"config": {"text": {"vocab_size": 99}}}),
    ],
)
def test_openai_s_vocabulary_is_not_guessed_for_a_model_of_another_size(tmp_path, file, content):
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="OpenAI's vocabulary"):
        load_tokenizer(tmp_path)


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pt"):
        load_tokenizer(tmp_path / "absent.pt")


def test_a_vocabulary_of_the_library_has_the_same_interface(tmp_path):
    write_word_level(tmp_path, {"[PAD]": 0, "<s>": 1, "</s>": 2, "red": 3, "car": 4})
    names = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "[PAD]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 5, "vocab_size": 8}}')
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer(["red car", "car red car red"]).tolist() == [[1, 3, 4, 2, 0], [1, 4, 3, 4, 2]]
    assert tokenizer.truncated(["red car", "car red car red"]).tolist() == [False, True]
    assert tokenizer.decode([3, 4]) == "red car"
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer


def test_special_ids_of_the_library_s_vocabulary_may_come_from_the_model(tmp_path):
    write_word_level(tmp_path, {"red": 0, "car": 1, "begin": 2, "stop": 3})
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": ids}))
    assert load_tokenizer(tmp_path)("red", 5).tolist() == [[2, 0, 3, 1, 1]]


def test_a_vocabulary_without_an_end_token_is_refused(tmp_path):
    write_word_level(tmp_path, {"<s>": 0, "red": 1})
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    with pytest.raises(ConfigError, match="eos_token"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    write_word_level(tmp_path, {"<s>": 0, "</s>": 1, "red": 2})
    (tmp_path / "config.json").write_text('{"text_config": {"vocab_size": 2}}')
    with pytest.raises(ConfigError, match="3 tokens, the model only 2"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_needs_a_context_with_room():
    with pytest.raises(DataError, match="context length"):
        Tokenizer(openai_tokenizer().encoding, START, END, context_length=2)


def write_word_level(folder, vocabulary):
    from tokenizers import Tokenizer as LibraryTokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    library = LibraryTokenizer(WordLevel(vocabulary, unk_token="red"))
    library.pre_tokenizer = WhitespaceSplit()
    library.save(str(folder / "tokenizer.json"))


def test_a_home_directory_that_does_not_exist_is_refused():
    with pytest.raises(CheckpointError, match=r"~nobody-of-this-name/ViT\.pt: there is no such home directory"):
        load_tokenizer("~nobody-of-this-name/ViT.pt")
