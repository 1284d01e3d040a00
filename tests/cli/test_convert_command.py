import json
import shutil

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from small_models import small_clip

from clipjax.cli.convert import FORMATS
from clipjax.inputs.tokenizer import load_tokenizer, openai_tokenizer
from clipjax.models.config import TextConfig, ViTConfig
from clipjax.weights.load import load
from clipjax.weights.save import FORMATS as KNOWN_FORMATS
from clipjax.weights.save import save

# OpenAI's rules, so that every format can hold it: heads of width 64, pooling at the largest id
VISION = ViTConfig(image_size=16, patch_size=8, width=64, layers=1, heads=1, mlp_width=256)
TEXT = TextConfig(49408, 16, width=64, layers=1, heads=1, mlp_width=256, end_of_text="largest")


@pytest.fixture(scope="module")
def openai_file(tmp_path_factory):
    """A checkpoint in OpenAI's layout, as a file without any other beside it."""
    path = tmp_path_factory.mktemp("openai") / "ViT-tiny.pt"
    save(path, *small_clip(VISION, TEXT), "openai-state-dict")
    return path


def assert_equal_params(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(assert_array_equal, one, other)


def test_formats_offered_are_those_that_can_be_written():
    assert FORMATS == KNOWN_FORMATS


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same_model_back(format, openai_file, tmp_path, clipjax):
    result = clipjax("convert", openai_file, tmp_path / "new", "--format", format)
    assert result.status == 0
    assert "wrote" in result.err and format in result.err
    (model, params), (expected_model, expected) = load(tmp_path / "new"), load(openai_file)
    assert_equal_params(params, expected)
    assert model.config.vision == expected_model.config.vision


def test_there_and_back_again_through_every_format(openai_file, tmp_path, clipjax):
    places = [openai_file]
    for number, format in enumerate(("huggingface", "openclip", "orbax", "openai-state-dict")):
        places.append(tmp_path / str(number))
        assert clipjax("convert", places[-2], places[-1], "--format", format).status == 0
    assert_equal_params(load(places[-1])[1], load(openai_file)[1])


def test_default_is_a_hugging_face_directory_with_its_tokenizer(openai_file, tmp_path, clipjax):
    clipjax("convert", openai_file, tmp_path / "hf")
    assert {"config.json", "model.safetensors", "vocab.json", "merges.txt"} <= {
        file.name for file in (tmp_path / "hf").iterdir()
    }
    tokenizer = load_tokenizer(tmp_path / "hf")
    texts = ["a photo of a cat.", "it's über 猫!"]
    assert_array_equal(tokenizer(texts), openai_tokenizer()(texts, 16))
    assert tokenizer.context_length == 16


def own_tokenizer(folder):
    """Give a directory CLIP's tokenizer with two tokens exchanged."""
    vocabulary, merges = openai_tokenizer().encoding.tables()
    vocabulary["cat</w>"], vocabulary["dog</w>"] = vocabulary["dog</w>"], vocabulary["cat</w>"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in merges), encoding="utf-8")


@pytest.mark.parametrize("format", ["huggingface", "openclip", "orbax"])
def test_own_tokenizer_of_a_checkpoint_goes_with_it(format, checkpoint, tmp_path, clipjax):
    shutil.copytree(checkpoint, tmp_path / "source")
    own_tokenizer(tmp_path / "source")
    assert clipjax("convert", tmp_path / "source", tmp_path / "new", "--format", format).status == 0
    assert load_tokenizer(tmp_path / "new") == load_tokenizer(tmp_path / "source") != openai_tokenizer()


def test_single_file_says_that_it_has_no_place_for_an_own_tokenizer(openai_file, tmp_path, clipjax):
    clipjax("convert", openai_file, tmp_path / "source", "--format", "openclip")
    own_tokenizer(tmp_path / "source")
    result = clipjax("convert", tmp_path / "source", tmp_path / "new.pt", "--format", "openai-state-dict")
    assert result.status == 0
    assert "no place for the model's tokenizer" in result.err


def test_weights_whose_tokenizer_is_nowhere_are_converted_without_one(tmp_path, clipjax):
    save(tmp_path / "source", *small_clip())
    result = clipjax("convert", tmp_path / "source", tmp_path / "new")
    assert result.status == 0
    assert "no tokenizer went with the weights" in result.err
    assert not (tmp_path / "new" / "vocab.json").exists()


def test_vision_only_checkpoint_needs_no_tokenizer(tmp_path, clipjax):
    save(tmp_path / "source", *small_clip(text=None))
    result = clipjax("convert", tmp_path / "source", tmp_path / "new")
    assert (result.status, result.err.count("\n")) == (0, 1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_are_rounded_when_asked(dtype, openai_file, tmp_path, clipjax):
    clipjax("convert", openai_file, tmp_path / "new", "--dtype", dtype)
    leaf = load(tmp_path / "new", dtype=None)[1]["image_projection"]["kernel"]
    assert leaf.dtype == dtype
    assert_array_equal(leaf, load(openai_file)[1]["image_projection"]["kernel"].astype(dtype))


def test_the_text_tower_alone_goes_with_its_tokenizer(openai_file, tmp_path, clipjax, complains):
    assert clipjax("convert", openai_file, tmp_path / "text_encoder", "--text-encoder").status == 0
    model, params = load(tmp_path / "text_encoder")
    assert model.config.vision is None and model.config.embed_dim is None
    assert_equal_params(params["text"], load(openai_file)[1]["text"])
    assert load_tokenizer(tmp_path / "text_encoder").encoding.fingerprint == openai_tokenizer().encoding.fingerprint
    refused = clipjax("convert", openai_file, tmp_path / "other", "--text-encoder", "--format", "orbax")
    complains(refused, "--text-encoder is for the format huggingface")


def test_numbers_keep_their_type_unless_asked(tmp_path, clipjax):
    model, params = small_clip()
    halved = jax.tree.map(lambda leaf: leaf.astype(np.float16), params)
    save(tmp_path / "half", model, halved)
    clipjax("convert", tmp_path / "half", tmp_path / "new", "--format", "orbax")
    assert_equal_params(load(tmp_path / "new", dtype=None)[1], halved)


def test_json_says_what_was_written(openai_file, tmp_path, clipjax):
    found = clipjax("convert", openai_file, tmp_path / "new", "--json").json
    assert found["format"] == "huggingface"
    assert found["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(load(openai_file)[1]))


@pytest.mark.parametrize("format", ["huggingface", "openai-state-dict"])
def test_destination_that_exists_is_refused_before_the_source_is_read(format, tmp_path, clipjax, complains):
    (tmp_path / "old").write_text("old")
    result = clipjax("convert", tmp_path / "missing", tmp_path / "old", "--format", format)
    complains(result, tmp_path / "old", "exists already", "--overwrite")
    assert (tmp_path / "old").read_text() == "old"


def test_overwrite_replaces_the_destination(openai_file, tmp_path, clipjax):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "old").touch()
    assert clipjax("convert", openai_file, tmp_path / "new", "--overwrite").status == 0
    assert not (tmp_path / "new" / "old").exists()


@pytest.mark.parametrize("source", ["weights", "weights/model.pt"])
def test_directory_of_the_checkpoint_is_never_replaced(source, openai_file, tmp_path, clipjax, complains):
    (tmp_path / "weights").mkdir()
    shutil.copy(openai_file, tmp_path / "weights" / "model.pt")
    result = clipjax("convert", tmp_path / source, tmp_path / "weights", "--overwrite")
    complains(result, tmp_path / source, "which is read here")
    assert (tmp_path / "weights" / "model.pt").read_bytes() == openai_file.read_bytes()


def test_checkpoint_can_be_rewritten_in_its_own_place(openai_file, tmp_path, clipjax):
    path = tmp_path / "model.pt"
    shutil.copy(openai_file, path)
    assert (
        clipjax("convert", path, path, "--format", "openai-state-dict", "--dtype", "float16", "--overwrite").status == 0
    )
    assert load(path, dtype=None)[1]["image_projection"]["kernel"].dtype == "float16"


def test_resnet_has_no_hugging_face_layout(tmp_path, clipjax, complains, shared_data):
    result = clipjax("convert", shared_data / "golden/openai/rn_state_fp16.pt", tmp_path / "new")
    complains(result, "ResNet", "openclip")
    assert not list(tmp_path.iterdir())


@pytest.mark.torch
def test_transformers_loads_what_was_converted(openai_file, tmp_path, clipjax):
    torch = pytest.importorskip("torch")
    from transformers import CLIPModel, CLIPTokenizer

    clipjax("convert", openai_file, tmp_path / "hf")
    theirs, report = CLIPModel.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report.values())
    model, params = load(openai_file)
    texts = ["a photo of a cat", "two dogs"]
    tokens = CLIPTokenizer.from_pretrained(tmp_path / "hf")(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs.text_projection(theirs.text_model(**tokens).pooler_output)
    found = model.encode_text(params, openai_tokenizer()(texts, 16))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
