import os
import subprocess
import sys

import pytest

from clipjax.errors import ConfigError, DataError
from clipjax.inputs.bpe import END_TOKEN, START_TOKEN
from clipjax.inputs.tokenizer import load_tokenizer
from clipjax.inputs.tokenizer_trainer import train_tokenizer
from clipjax.inputs.tokenizer_writer import write_tokenizer

TEXTS = [f"a {colour} digit {name}" for colour in ("red", "green", "Blue") for name in ("seven", "four", "7")]
ODD_TEXTS = ["A red seven, isn't it?", "unseen wörds 日本 ☃", "1234", "digit-seven's  end"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 600, context_length=16)


def test_start_and_end_are_the_last_two_ids(tokenizer):
    size = tokenizer.vocab_size
    vocabulary, _ = tokenizer.encoding.tables()
    assert (tokenizer.start_id, tokenizer.end_id) == (size - 2, size - 1)
    assert (vocabulary[START_TOKEN], vocabulary[END_TOKEN]) == (size - 2, size - 1)


def test_frequent_words_become_one_token(tokenizer):
    assert [len(tokenizer.encode(word)) for word in ("digit", "seven", "blue", "7")] == [1, 1, 1, 1]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_text_comes_back(tokenizer, text):
    squeezed = lambda text: "".join(text.lower().split())
    assert squeezed(tokenizer.decode(tokenizer.encode(text))) == squeezed(text)


@pytest.mark.parametrize("size", [514, 520, 530])
def test_the_vocabulary_is_never_larger_than_asked_for(size):
    assert train_tokenizer(TEXTS, size, context_length=16).vocab_size == size


def test_the_order_of_the_texts_does_not_matter(tokenizer):
    assert train_tokenizer(TEXTS[::-1], 600, context_length=16) == tokenizer


def test_another_process_learns_the_same_vocabulary(tokenizer):
    # hash tables are in another order there
    program = (
        "from clipjax.inputs.tokenizer_trainer import train_tokenizer as train; "
        f"print(train({TEXTS!r}, 600, context_length=16).fingerprint)"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        printed = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert printed.stdout.strip() == tokenizer.fingerprint, printed.stderr


def test_written_files_load_as_the_same_tokenizer(tokenizer, tmp_path):
    write_tokenizer(tmp_path, tmp_path, tokenizer)
    assert (tmp_path / "vocab.json").is_file() and (tmp_path / "merges.txt").is_file()
    assert load_tokenizer(tmp_path) == tokenizer


def test_transformers_reads_the_same_ids(tokenizer, tmp_path):
    from transformers import CLIPTokenizer

    write_tokenizer(tmp_path, tmp_path, tokenizer)
    peer = CLIPTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, *ODD_TEXTS]:
        assert peer(text)["input_ids"] == [tokenizer.start_id, *tokenizer.encode(text), tokenizer.end_id]


def test_a_vocabulary_without_room_for_all_bytes_is_refused():
    with pytest.raises(ConfigError, match="at least 514"):
        train_tokenizer(TEXTS, 500, context_length=16)


@pytest.mark.parametrize("texts", [[], ["", " "], "one string", [b"bytes"]])
def test_texts_that_hold_nothing_to_learn_from_are_refused(texts):
    with pytest.raises(DataError):
        train_tokenizer(texts, 600, context_length=16)
