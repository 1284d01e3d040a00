"""Reading a checkpoint's tokenizer files, whole and broken."""

import json

import pytest

from clipjax.errors import ConfigError, DataError
from clipjax.inputs.bpe import END_TOKEN, START_TOKEN, BytePairs, published_byte_pairs
from clipjax.inputs.tokenizer_files import LibraryEncoding, read_encoding, read_text_facts

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
LOWER_CASE = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}
# Every byte inside a word and at its end, in the published order.
BYTES = [token for _, token in sorted(published_byte_pairs()._tokens.items())[:512]]


def test_a_vocabulary_with_merges_is_read(tmp_path):
    write_pair(tmp_path, merges="a b</w>\n")
    assert read(tmp_path).encode("ab") == [514]


@pytest.mark.parametrize("merges", ["a b</w>\n\n", "#version: 0.2\na b</w>", "#version: 0.2\r\na b</w>\r\n"])
def test_header_blank_lines_and_line_ends_are_no_merges(tmp_path, merges):
    write_pair(tmp_path, merges=merges)
    assert len(read(tmp_path)._merges) == 1


def test_a_merge_of_hash_signs_is_no_header(tmp_path):
    write_pair(tmp_path, merges="# #</w>\n", added=["##</w>"])
    assert read(tmp_path).encode("##") == [514]


def test_special_tokens_go_by_the_checkpoint_s_names(tmp_path):
    write_pair(tmp_path, merges="", added=["<s>", "</s>"])
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}')
    encoding = read(tmp_path)
    assert (encoding.start_id, encoding.end_id) == (514, 515)


@pytest.mark.parametrize("merge", ["a b</w>", ["a", "b</w>"]])
def test_a_tokenizer_json_with_clip_s_rules_becomes_byte_pairs(tmp_path, merge):
    write_library_file(tmp_path, merges=[merge])
    encoding = read(tmp_path)
    assert isinstance(encoding, BytePairs)
    assert encoding.encode("AB") == [512]


def test_the_testbed_s_tokenizer_json_alone_is_openai_s_vocabulary(shared_data, tmp_path):
    (tmp_path / "tokenizer.json").symlink_to(shared_data / "testbed" / "tokenizer.json")
    assert read(tmp_path).fingerprint == published_byte_pairs().fingerprint


def test_the_library_agrees_on_captions_that_need_no_repair(shared_data):
    library = LibraryEncoding(shared_data / "testbed" / "tokenizer.json")
    for caption in ("a photo of a cat.", "It's 3 DOGS & 2 cats!", "permanent crop land, é 日本"):
        assert library.encode(caption) == published_byte_pairs().encode(caption)


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": None},
        {"added_tokens": [{"id": 600, "content": "<my-cat>", **FLAGS}]},
        {"suffix": None},
    ],
)
def test_a_tokenizer_json_with_other_rules_stays_with_the_library(tmp_path, change):
    write_library_file(tmp_path, **change)
    assert isinstance(read(tmp_path), LibraryEncoding)


def test_a_vocabulary_of_another_kind_gives_way_to_tokenizer_json(tmp_path):
    write_library_file(tmp_path)
    (tmp_path / "vocab.json").write_text('{"Ġhello": 0}')
    (tmp_path / "merges.txt").write_text("")
    assert read(tmp_path).vocab_size == 515


def test_no_tokenizer_files_are_no_encoding(tmp_path):
    assert read(tmp_path) is None


def test_the_library_s_unknown_ids_are_refused(tmp_path):
    write_library_file(tmp_path, normalizer=None)
    with pytest.raises(DataError, match="99999"):
        read(tmp_path).decode([99_999])


def test_half_a_surrogate_pair_does_not_stop_the_library(tmp_path):
    write_library_file(tmp_path, normalizer=None)
    assert read(tmp_path).encode("a\ud83d") == read(tmp_path).encode("a?")


def test_the_innermost_section_counts(tmp_path):
    (tmp_path / "config.json").write_text('{"vocab_size": 3, "text_config": {"vocab_size": 5}}')
    assert read_text_facts(tmp_path).vocab_size == 5


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "version https://git-lfs.github.com/spec/v1"),
        ("config.json", "[]"),
        ("config.json", '{"text_config": {"vocab_size": "49408"}}'),
        ("config.json", '{"text_config": {"vocab_size": -1}}'),
        ("config.json", '{"text_config": {"max_position_embeddings": 1000000000000}}'),
        ("config.json", '{"text_config": {"max_position_embeddings": 2}}'),
        ("open_clip_config.json", '{"model_cfg": {"text_cfg": {"context_length": 7.5}}}'),
        ("tokenizer_config.json", "{"),
        ("special_tokens_map.json", b"\xff\xfe"),
        ("tokenizer.json", ""),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"model": 1}'),
        ("tokenizer.json", '{"a":' * 100_000),
        ("vocab.json", '{"a": 1}'),
        ("merges.txt", "a b"),
    ],
)
def test_a_malformed_file_is_named_in_one_line(tmp_path, file, content):
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=file) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("merges", "message"), [("a b c", "not a pair"), ("a", "not a pair"), ("x y", "'xy'"), ("ü û", "'ü|'üû'")]
)
def test_malformed_merges_are_refused(tmp_path, merges, message):
    write_pair(tmp_path, merges="#version: 0.2\n" + merges)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("merges", [None, {"a": 1}, [["a"]], [[1, 2]], ["a"]])
def test_malformed_merges_in_tokenizer_json_are_refused(tmp_path, merges):
    write_library_file(tmp_path, merges=merges)
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        read(tmp_path)


def test_a_missing_special_token_is_named(tmp_path):
    write_pair(tmp_path, merges="")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    with pytest.raises(ConfigError, match="<end>"):
        read(tmp_path)


def read(folder):
    return read_encoding(folder, read_text_facts(folder))


def write_pair(folder, *, merges, added=("ab</w>",)):
    tokens = [*BYTES, START_TOKEN, END_TOKEN, *added]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_bytes(merges.encode())


def write_library_file(folder, *, merges=(("a", "b</w>"),), normalizer=LOWER_CASE, added_tokens=None, suffix="</w>"):
    specials = [{"id": 513 + i, "content": name, **FLAGS} for i, name in enumerate((START_TOKEN, END_TOKEN))]
    content = {
        "version": "1.0",
        "added_tokens": specials if added_tokens is None else added_tokens,
        "normalizer": normalizer,
        "model": {
            "type": "BPE",
            "end_of_word_suffix": suffix,
            "unk_token": "a",
            "vocab": {token: index for index, token in enumerate([*BYTES, "ab</w>"])},
            "merges": merges,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
