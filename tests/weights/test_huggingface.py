"""transformers' directories: every field of config.json, and both directions against transformers itself."""

import dataclasses
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import PLAIN_TEXT, PLAIN_VIT, RESNET, TEXT, VIT, random_images, random_params, random_texts

from clipjax.errors import CheckpointError, ConfigError
from clipjax.inputs.tokenizer import openai_tokenizer
from clipjax.inputs.tokenizer_writer import write_tokenizer
from clipjax.models.clip import CLIP
from clipjax.models.config import OPENAI_MEAN, CLIPConfig, TextConfig, ViTConfig
from clipjax.weights.huggingface import read_config, write_config
from clipjax.weights.load import load
from clipjax.weights.names import huggingface_names
from clipjax.weights.save import save

BOTH = CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16)


def names_of(config: CLIPConfig) -> list[str]:
    return [name for row in huggingface_names(config) for name in row.names()]


@pytest.fixture
def folder(tmp_path):
    """The configuration files of a small model, to be edited."""
    write_config(tmp_path, BOTH, "float32")
    return tmp_path


def edit(file, change):
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_absent_fields_are_transformers_defaults(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip", "vision_config": {}, "text_config": {}}')
    published = CLIPConfig(
        ViTConfig(224, 32, 768, 12, 12, 3072),
        TextConfig(49408, 77, 512, 12, 8, 2048, end_of_text="first", pad_token_id=1),
        512,
    )
    assert read_config(tmp_path, names_of(published))[0] == published


def test_projection_size_of_the_whole_wins_over_those_of_its_sections(folder):
    edit(folder / "config.json", lambda d: d["vision_config"].update(projection_dim=512))
    assert read_config(folder, names_of(BOTH))[0].embed_dim == 16


def test_dictionaries_of_transformers_4_are_passed_over(folder):
    edit(folder / "config.json", lambda d: d.update(text_config_dict=None, vision_config_dict={"hidden_size": 3}))
    assert read_config(folder, names_of(BOTH))[0].vision == PLAIN_VIT


def test_end_token_two_means_the_largest_id(folder):
    edit(folder / "config.json", lambda d: d["text_config"].update(eos_token_id=2))
    assert read_config(folder, names_of(BOTH))[0].text.end_of_text == "largest"


def test_any_other_end_token_means_its_first_place(folder):
    edit(folder / "config.json", lambda d: d["text_config"].update(eos_token_id=39))
    text = read_config(folder, names_of(BOTH))[0].text
    assert (text.end_of_text, text.eos_token_id) == ("first", 39)


def test_pixels_are_openais_without_a_preprocessor(folder):
    (folder / "preprocessor_config.json").unlink()
    config = read_config(folder, names_of(BOTH))[0]
    assert (config.mean, config.preprocessing) == (OPENAI_MEAN, "openai")


def test_pixels_are_the_preprocessors(folder):
    edit(folder / "preprocessor_config.json", lambda d: d.update(image_mean=[0.1, 0.2, 0.3], image_std=[1, 2, 3]))
    config = read_config(folder, names_of(BOTH))[0]
    assert (config.mean, config.std, config.preprocessing) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "transformers")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.update(model_type="bert"), "model_type is 'bert'; clipjax reads clip, clip_text_model"),
        (lambda d: d.pop("model_type"), "model_type is None"),
        (lambda d: d.pop("vision_config"), "vision_config is missing"),
        (lambda d: d.update(text_config=[]), "text_config is a list, an object is needed"),
        (lambda d: d.update(projection_dim=0), "projection_dim is 0; it must be an integer from 1"),
        (lambda d: d["vision_config"].update(hidden_size="128"), "vision_config.hidden_size is '128'"),
        (lambda d: d["vision_config"].update(num_attention_heads=3), "num_attention_heads is 3, which does not divide"),
        (lambda d: d["vision_config"].update(num_hidden_layers=-1), "vision_config.num_hidden_layers is -1"),
        (lambda d: d["vision_config"].update(num_hidden_layers=10**8), "is 100000000, but the weights hold 2 layers"),
        (lambda d: d["vision_config"].update(patch_size=32), "patch_size 32 exceeds image_size 16"),
        (lambda d: d["vision_config"].update(num_channels=1), "num_channels must be 3"),
        (lambda d: d["vision_config"].update(layer_norm_eps=0), "layer_norm_eps is 0.0; it must lie between 0 and 1"),
        (lambda d: d["text_config"].update(layer_norm_eps="1e-5"), "text_config.layer_norm_eps is '1e-5'"),
        (
            lambda d: d["text_config"].update(hidden_act="relu"),
            "text_config.hidden_act is 'relu'; known are quick_gelu",
        ),
        (lambda d: d["text_config"].update(hidden_act=["gelu"]), r"hidden_act is \['gelu'\]"),
        (lambda d: d["text_config"].update(vocab_size=True), "text_config.vocab_size is True"),
        (lambda d: d["text_config"].update(eos_token_id=-1), "text_config.eos_token_id is -1"),
    ],
)
def test_field_that_makes_no_clip_is_refused_by_name(folder, change, complaint):
    edit(folder / "config.json", change)
    with pytest.raises(ConfigError, match=rf"config\.json: .*{complaint}") as caught:
        read_config(folder, names_of(BOTH))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"do_center_crop": False}, "do_center_crop is False; clipjax supports True only"),
        ({"resample": 2}, "resample is 2; clipjax supports 3 only"),
        ({"image_mean": [0.5]}, r"image_mean is \[0.5\]; it must hold 3 numbers"),
        ({"image_std": [1, 0, 1]}, "std is .* must be positive"),
        ({"image_std": ["a", 0, 1]}, "image_std is 'a'"),
        ({"do_convert_rgb": False}, "do_convert_rgb is False; clipjax supports True only"),
        ({"size": {"shortest_edge": 18}}, r"size is {'shortest_edge': 18}; clipjax prepares .* {'shortest_edge': 16}"),
        ({"size": {"height": 16, "width": 16}}, "size is {'height': 16"),
        ({"size": 18}, "size is 18"),
        ({"crop_size": {"height": 12, "width": 12}}, "crop_size is {'height': 12"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor is 0.0078.*; clipjax divides by 255"),
        ({"image_processor_type": "SiglipImageProcessor"}, "image_processor_type is 'SiglipImageProcessor'"),
    ],
)
def test_preparation_of_images_that_clipjax_lacks_is_refused(folder, change, complaint):
    edit(folder / "preprocessor_config.json", lambda d: d.update(change))
    with pytest.raises(ConfigError, match=complaint):
        read_config(folder, names_of(BOTH))


@pytest.mark.parametrize(
    "change",
    [
        {"size": 16, "crop_size": 16},
        {"size": {"shortest_edge": 16, "longest_edge": None, "height": None, "width": None}},
        {"rescale_factor": 0.00392156862745098},
        {"rescale_factor": None, "do_convert_rgb": None, "size": None, "crop_size": None},
        {"image_processor_type": "CLIPImageProcessorFast"},
        {"image_processor_type": None, "feature_extractor_type": "CLIPFeatureExtractor"},
        {"image_processor_type": None},
    ],
    ids=str,
)
def test_other_spellings_of_the_same_preparation_are_accepted(folder, change):
    def edited(document):
        document.update(change)
        for key in [key for key, value in document.items() if value is None]:
            del document[key]

    wanted = read_config(folder, names_of(BOTH))[0]
    edit(folder / "preprocessor_config.json", edited)
    assert read_config(folder, names_of(BOTH))[0] == wanted


def nested(folder, **changes):
    """Move the preprocessor's fields to where CLIPProcessor of transformers 5 saves them."""
    fields = json.loads((folder / "preprocessor_config.json").read_text())
    document = {"image_processor": fields | changes, "processor_class": "CLIPProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(document))


def test_pixels_are_those_of_the_processor_of_transformers_5(folder):
    nested(folder, image_mean=[0.1, 0.2, 0.3])
    (folder / "preprocessor_config.json").unlink()
    config = read_config(folder, names_of(BOTH))[0]
    assert (config.mean, config.preprocessing) == ((0.1, 0.2, 0.3), "transformers")


def test_processor_wins_over_a_preprocessor_beside_it_as_in_transformers(folder):
    nested(folder, image_mean=[0.1, 0.2, 0.3])
    assert read_config(folder, names_of(BOTH))[0].mean == (0.1, 0.2, 0.3)


def test_processor_that_says_nothing_of_images_is_passed_over(folder):
    edit(folder / "preprocessor_config.json", lambda d: d.update(image_mean=[0.1, 0.2, 0.3]))
    (folder / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')
    assert read_config(folder, names_of(BOTH))[0].mean == (0.1, 0.2, 0.3)


def test_preparation_of_images_does_not_matter_to_a_text_tower(folder):
    config = CLIPConfig(None, PLAIN_TEXT, 16)
    write_config(folder, config, "float32")
    edit(folder / "preprocessor_config.json", lambda d: d.update(resample=2))
    assert read_config(folder, names_of(config))[0].vision is None


@pytest.mark.parametrize(("vision", "remedy"), [(PLAIN_VIT, "openclip or orbax"), (None, "orbax")])
def test_first_end_token_two_is_refused_since_transformers_means_the_largest_id(tmp_path, vision, remedy):
    text = dataclasses.replace(PLAIN_TEXT, end_of_text="first", bos_token_id=1, eos_token_id=2)
    with pytest.raises(CheckpointError, match=rf"pools at the first end token, 2; .* save it as {remedy}$"):
        write_config(tmp_path, CLIPConfig(vision, text, 16), "float32")
    assert not list(tmp_path.iterdir())


def test_resnet_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no CLIP with a ResNet; save it as openclip or openai-state-dict"):
        write_config(tmp_path, CLIPConfig(RESNET, PLAIN_TEXT, 16), "float32")
    assert not list(tmp_path.iterdir())


# Towers that differ in everything a configuration can say.
PRECISE = dataclasses.replace(VIT, activation="gelu", layer_norm_eps=1e-3, heads=8)
FIRST = dataclasses.replace(TEXT, end_of_text="first", bos_token_id=20, eos_token_id=21, activation="gelu")
CROPPED = dataclasses.replace(VIT, image_size=18, patch_size=5, mlp_width=31)
SMALL_EPS = dataclasses.replace(TEXT, layer_norm_eps=1e-3, heads=2, context_length=9)
MODELS = {
    "plain": CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16),
    "gelu-eps-heads": CLIPConfig(PRECISE, SMALL_EPS, 8),
    "first-cropped": CLIPConfig(CROPPED, FIRST, 40),
    "text": CLIPConfig(None, SMALL_EPS, None),
    "text-first": CLIPConfig(None, FIRST, None),
    "text-projected": CLIPConfig(None, FIRST, 16),
    "vision": CLIPConfig(CROPPED, None, None),
    "vision-projected": CLIPConfig(PRECISE, None, 16),
}


def peer_class(config: CLIPConfig):
    """Return the transformers class for these towers, and the names of its results."""
    import transformers

    if config.vision and config.text:
        return transformers.CLIPModel, ("image_embeds", "text_embeds")
    kind = "Vision" if config.vision else "Text"
    if config.embed_dim is None:
        return getattr(transformers, f"CLIP{kind}Model"), ("pooler_output",)
    return getattr(transformers, f"CLIP{kind}ModelWithProjection"), (
        "image_embeds" if config.vision else "text_embeds",
    )


def embeddings(model: CLIP, params) -> list[np.ndarray]:
    results = []
    if model.config.vision:
        results.append(model.encode_image(params, random_images(model)))
    if model.config.text:
        results.append(model.encode_text(params, hard_texts(model.config.text)))
    if len(results) == 2:  # CLIPModel returns unit vectors
        results = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in results]
    return [np.asarray(x) for x in results]


def hard_texts(config: TextConfig):
    """Texts on which the two end-of-text rules differ: ids above the end token, two ends, no end."""
    tokens = random_texts(config, (4, 7, 5, 6, 6))
    tokens = tokens.at[3, 2].set(config.eos_token_id)
    return tokens.at[4].set(np.where(tokens[4] == config.eos_token_id, 3, tokens[4]))


def peer_embeddings(peer, model: CLIP, results) -> list[np.ndarray]:
    import torch

    inputs = {}
    if model.config.vision:
        inputs["pixel_values"] = torch.tensor(np.asarray(random_images(model))).permute(0, 3, 1, 2)
    if model.config.text:
        inputs["input_ids"] = torch.tensor(np.asarray(hard_texts(model.config.text)), dtype=torch.long)
    with torch.no_grad():
        output = peer.eval()(**inputs)
    return [getattr(output, name).numpy() for name in results]


every_model = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)


@pytest.mark.torch
@every_model
def test_transformers_loads_what_we_save_whole_and_computes_the_same(tmp_path, config):
    pytest.importorskip("torch")
    model = CLIP(config)
    params = random_params(model)
    save(tmp_path / "saved", model, params)
    kind, results = peer_class(config)
    peer, info = kind.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(info.values()), info
    for ours, theirs in zip(embeddings(model, params), peer_embeddings(peer, model, results), strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.torch
@every_model
def test_we_load_what_transformers_saves_and_compute_the_same(tmp_path, config):
    torch = pytest.importorskip("torch")
    save(tmp_path / "ours", CLIP(config), random_params(CLIP(config)))
    kind, results = peer_class(config)
    torch.manual_seed(0)
    peer = kind(kind.config_class.from_pretrained(tmp_path / "ours"))
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    peer.save_pretrained(tmp_path / "theirs")
    model, params = load(tmp_path / "theirs")
    for ours, theirs in zip(embeddings(model, params), peer_embeddings(peer, model, results), strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("config", [MODELS["gelu-eps-heads"], MODELS["text-projected"]], ids=["both", "text"])
def test_transformers_saves_back_the_same_configuration(tmp_path, config):
    pytest.importorskip("torch")
    save(tmp_path / "ours", CLIP(config), random_params(CLIP(config)))
    peer_class(config)[0].from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    saved, returned = (
        dataclasses.replace(load(tmp_path / name)[0].config, preprocessing="openai") for name in ("ours", "theirs")
    )
    assert returned == saved


@pytest.mark.torch
def test_shards_of_transformers_are_loaded(tmp_path):
    pytest.importorskip("torch")
    model = CLIP(MODELS["plain"])
    save(tmp_path / "ours", model, random_params(model))
    peer_class(model.config)[0].from_pretrained(tmp_path / "ours").save_pretrained(
        tmp_path / "theirs", max_shard_size="200KB"
    )
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 2
    for ours, theirs in zip(embeddings(*load(tmp_path / "theirs")), embeddings(*load(tmp_path / "ours"))):
        assert np.array_equal(ours, theirs)


@pytest.mark.torch
def test_transformers_prepares_images_as_the_configuration_says(tmp_path):
    pytest.importorskip("torch")
    from transformers import CLIPImageProcessor

    config = dataclasses.replace(BOTH, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    save(tmp_path / "saved", CLIP(config), random_params(CLIP(config)))
    processor = CLIPImageProcessor.from_pretrained(tmp_path / "saved")
    assert (tuple(processor.image_mean), tuple(processor.image_std)) == (config.mean, config.std)
    assert (dict(processor.size), dict(processor.crop_size)) == ({"shortest_edge": 16}, {"height": 16, "width": 16})


@pytest.mark.torch
def test_images_are_prepared_as_the_processor_that_transformers_saved_says(tmp_path):
    pytest.importorskip("torch")
    from transformers import CLIPImageProcessor, CLIPProcessor, CLIPTokenizer

    model = CLIP(BOTH)
    save(tmp_path / "ours", model, random_params(model))
    write_tokenizer(tmp_path, tmp_path / "none.pt", openai_tokenizer())
    images = CLIPImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3, size={"shortest_edge": 16}, crop_size=16)
    peer_class(BOTH)[0].from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    CLIPProcessor(images, CLIPTokenizer.from_pretrained(tmp_path)).save_pretrained(tmp_path / "theirs")
    config = load(tmp_path / "theirs")[0].config
    assert (config.mean, config.std, config.preprocessing) == ((0.5,) * 3, (0.25,) * 3, "transformers")
