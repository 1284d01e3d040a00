import dataclasses
import json
import shutil

import pytest

from clipjax.inputs.tokenizer import load_tokenizer, openai_tokenizer
from clipjax.inputs.tokenizer_writer import FILES, write_tokenizer

TEXTS = ["a photo of a cat.", "Café & <b>über</b> 猫!!", "", "it's 10,000\tmiles", "🐱" * 40]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A directory with CLIP's published tokenizer, as it is written for a lone weight file."""
    folder, source = tmp_path_factory.mktemp("published"), tmp_path_factory.mktemp("downloads") / "ViT-B-32.pt"
    source.touch()
    write_tokenizer(folder, source, openai_tokenizer())
    return folder


def test_written_files_give_the_same_ids(published):
    assert (load_tokenizer(published)(TEXTS) == openai_tokenizer()(TEXTS)).all()


def test_written_files_are_an_equal_tokenizer(published):
    assert load_tokenizer(published) == openai_tokenizer()


def test_transformers_gives_the_same_ids(published):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizer.from_pretrained(str(published))
    texts = ["a photo of a cat.", "it's 10,000 miles", "café über"]
    found = theirs(texts, padding="max_length", max_length=77, truncation=True)["input_ids"]
    ours = openai_tokenizer()(texts)
    ends = (ours == 49407).argmax(axis=1)
    assert [row[: end + 1] for row, end in zip(found, ends)] == [list(r[: e + 1]) for r, e in zip(ours, ends)]


def test_context_length_is_written_down(tmp_path):
    short = dataclasses.replace(openai_tokenizer(), context_length=20)
    write_tokenizer(tmp_path, tmp_path / "missing.pt", short)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 20
    assert load_tokenizer(tmp_path).context_length == 20


def test_files_beside_a_directory_of_weights_are_copied_as_they_are(published, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(published, source)
    (source / "tokenizer_config.json").write_text('{"model_max_length": 77, "note": "kept"}')
    target.mkdir()
    write_tokenizer(target, source, load_tokenizer(source))
    assert sorted(file.name for file in target.iterdir()) == sorted(set(FILES) - {"tokenizer.json"})
    assert all((target / file.name).read_bytes() == (source / file.name).read_bytes() for file in target.iterdir())


def other_vocabulary(published, folder):
    """Write a tokenizer like CLIP's with the ids of two tokens exchanged."""
    shutil.copytree(published, folder)
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    vocabulary["cat</w>"], vocabulary["dog</w>"] = vocabulary["dog</w>"], vocabulary["cat</w>"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return folder


def test_files_of_another_tokenizer_that_lie_beside_a_weight_file_are_left_alone(published, tmp_path):
    downloads = other_vocabulary(published, tmp_path / "downloads")
    weights, target = downloads / "ViT-B-32.pt", tmp_path / "target"
    weights.touch()
    target.mkdir()
    write_tokenizer(target, weights, load_tokenizer(weights))
    assert load_tokenizer(target) == openai_tokenizer()


def test_unreadable_files_beside_a_weight_file_are_left_alone(tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "tokenizer.json").write_text("{")
    (tmp_path / "target").mkdir()
    write_tokenizer(tmp_path / "target", tmp_path / "downloads" / "ViT-B-32.pt", openai_tokenizer())
    assert load_tokenizer(tmp_path / "target") == openai_tokenizer()


def test_own_vocabulary_of_a_checkpoint_survives(published, tmp_path):
    source, target = other_vocabulary(published, tmp_path / "source"), tmp_path / "target"
    target.mkdir()
    tokenizer = load_tokenizer(source)
    write_tokenizer(target, source, tokenizer)
    assert load_tokenizer(target) == tokenizer != openai_tokenizer()
