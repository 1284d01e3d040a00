"""`load`: formats told by content, configurations given or found, and one line for whatever is wrong."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import PLAIN_TEXT, PLAIN_VIT, RESNET, assert_same_params, random_params

from clipjax.errors import CheckpointError, ClipjaxError, ConfigError
from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.weights.load import load
from clipjax.weights.save import save
from clipjax.weights.torch_archive import read_torch_archive
from clipjax.weights.torch_writer import write_torch_archive

MODEL = CLIP(CLIPConfig(PLAIN_VIT, PLAIN_TEXT, 16))
PARAMS = random_params(MODEL)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The same model once in every format."""
    folder = tmp_path_factory.mktemp("written")
    for format in ("huggingface", "openclip", "openai-state-dict", "orbax"):
        save(folder / format, MODEL, PARAMS, format=format)
    return folder


@pytest.fixture
def huggingface(written, tmp_path):
    """A copy of the Hugging Face directory, to be spoilt."""
    return shutil.copytree(written / "huggingface", tmp_path / "huggingface")


def edit_tensors(folder, **changes):
    """Change tensors of a Hugging Face directory; None removes one. Dots are written as double underscores."""
    tensors = load_file(folder / "model.safetensors")
    for name, change in changes.items():
        name = name.replace("__", ".")
        if change is None:
            del tensors[name]
        else:
            tensors[name] = np.ascontiguousarray(change(tensors.get(name)))
    save_file(tensors, folder / "model.safetensors")


def edit_config(folder, **changes):
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | changes))


def refusal(path, **options) -> str:
    with pytest.raises(ClipjaxError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["weights", "model.safetensors", "ViT.pt", "pytorch_model.bin", "archive.zip"])
def test_state_dict_is_recognised_whatever_its_name(written, tmp_path, name):
    shutil.copy(written / "openai-state-dict", tmp_path / name)
    assert_same_params(load(tmp_path / name)[1], PARAMS)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "mine.pt"])
def test_huggingface_weights_are_recognised_whatever_their_name(huggingface, name):
    (huggingface / "model.safetensors").rename(huggingface / name)
    assert_same_params(load(huggingface)[1], PARAMS)
    assert_same_params(load(huggingface / name)[1], PARAMS)


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.safetensors"])
def test_openclip_weights_may_be_a_torch_archive(written, tmp_path, name):
    shutil.copy(written / "openclip/open_clip_config.json", tmp_path)
    shutil.copy(written / "openai-state-dict", tmp_path / name)
    model, params = load(tmp_path)
    assert model == MODEL
    assert_same_params(params, PARAMS)


def test_openclip_configuration_counts_where_shapes_are_silent(written, tmp_path):
    folder = shutil.copytree(written / "openclip", tmp_path / "openclip")
    document = json.loads((folder / "open_clip_config.json").read_text())
    document["model_cfg"]["vision_cfg"]["head_width"] = 32
    document["model_cfg"]["quick_gelu"] = False
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    vision = load(folder / "open_clip_model.safetensors")[0].config.vision
    assert (vision.heads, vision.activation) == (4, "gelu")


def test_given_configuration_wins_over_an_inferred_one(written):
    config = dataclasses.replace(MODEL.config, vision=dataclasses.replace(PLAIN_VIT, heads=8))
    assert load(written / "openai-state-dict", config=config)[0].config == config


def test_given_configuration_stands_in_for_a_missing_one(huggingface):
    (huggingface / "config.json").unlink()
    (huggingface / "preprocessor_config.json").unlink()
    model, params = load(huggingface, config=MODEL.config)
    assert model == MODEL
    assert_same_params(params, PARAMS)


def test_given_configuration_wins_over_the_one_of_our_own_format(written):
    config = dataclasses.replace(MODEL.config, vision=dataclasses.replace(PLAIN_VIT, heads=8))
    assert load(written / "orbax", config=config)[0].config == config
    with pytest.raises(ConfigError, match="params lack"):
        load(written / "orbax", config=dataclasses.replace(config, vision=RESNET))


@pytest.mark.parametrize("embed_dim", [None, 16])
def test_given_configuration_stands_in_for_a_missing_one_of_one_tower(tmp_path, embed_dim):
    model = CLIP(CLIPConfig(None, PLAIN_TEXT, embed_dim))
    save(tmp_path / "text", model, random_params(model))
    (tmp_path / "text/config.json").unlink()
    assert_same_params(load(tmp_path / "text", config=model.config)[1], random_params(model))


def test_huggingface_file_without_configuration_is_refused(huggingface):
    (huggingface / "config.json").unlink()
    assert "config.json must lie beside it" in refusal(huggingface / "model.safetensors")


def test_tensors_of_something_else_are_refused(tmp_path):
    save_file({"bert.weight": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    assert "tensors, but not those of a CLIP" in refusal(tmp_path / "model.safetensors")


def test_shards_are_put_together(huggingface):
    tensors = load_file(huggingface / "model.safetensors")
    (huggingface / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(names)}
    for shard in set(index.values()):
        save_file({name: tensors[name] for name in names if index[name] == shard}, huggingface / shard)
    (huggingface / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    assert_same_params(load(huggingface)[1], PARAMS)


def test_index_wins_over_a_file_beside_it(huggingface):
    tensors = load_file(huggingface / "model.safetensors")
    save_file({name: np.zeros_like(x) for name, x in tensors.items()}, huggingface / "shard.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "shard.safetensors")}
    (huggingface / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not any(x.any() for x in jax.tree.leaves(load(huggingface)[1]))


def test_safetensors_win_over_a_pickle_beside_them(huggingface):
    (huggingface / "pytorch_model.bin").write_bytes(b"nothing of use")
    assert_same_params(load(huggingface)[1], PARAMS)


def test_several_files_of_unknown_names_must_be_chosen_from(huggingface):
    (huggingface / "model.safetensors").rename(huggingface / "one.safetensors")
    shutil.copy(huggingface / "one.safetensors", huggingface / "two.safetensors")
    message = refusal(huggingface)
    assert "2 weight files (one.safetensors, two.safetensors); name the one to load" in message
    assert_same_params(load(huggingface / "two.safetensors")[1], PARAMS)


def test_directory_without_weights_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("nothing here")
    message = refusal(tmp_path)
    assert str(tmp_path) in message and "no weights here" in message


def test_missing_path_is_refused(tmp_path):
    assert refusal(tmp_path / "none.pt") == f"{tmp_path}/none.pt: no such file or directory"


def test_missing_home_directory_is_refused():
    assert refusal("~nobody-of-this-name/ViT.pt").startswith("~nobody-of-this-name/ViT.pt: there is no such home")


@pytest.mark.parametrize("dtype", ["banana", "int32", 3])
@pytest.mark.parametrize("format", ["huggingface", "orbax"])
def test_type_that_is_not_floating_point_is_refused(written, format, dtype):
    assert "choose float32, float16 or bfloat16" in refusal(written / format, dtype=dtype)


def test_buffers_that_hold_no_weight_are_passed_over(huggingface, written, tmp_path):
    edit_tensors(huggingface, vision_model__embeddings__position_ids=lambda _: np.arange(17)[None])
    assert_same_params(load(huggingface)[1], PARAMS)
    tensors = {name: stored.read() for name, stored in read_torch_archive(written / "openai-state-dict").items()}
    extra = {
        "attn_mask": np.full((12, 12), -np.inf, np.float32),
        "input_resolution": np.array(16),
        "context_length": np.array(12),
        "vocab_size": np.array(40),
    }
    write_torch_archive(tmp_path / "buffers.pt", tensors | extra)
    assert_same_params(load(tmp_path / "buffers.pt")[1], PARAMS)


@pytest.mark.parametrize("format", ["huggingface", "openclip", "openai-state-dict", "orbax"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_params_have_the_type_asked_for(written, format, dtype):
    wanted = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    assert_same_params(load(written / format, dtype=dtype)[1], wanted)


def test_params_are_float32_unless_asked_otherwise(tmp_path):
    half = jax.tree.map(lambda x: x.astype(jnp.float16), PARAMS)
    save(tmp_path / "half.pt", MODEL, half, format="openai-state-dict")
    assert_same_params(load(tmp_path / "half.pt")[1], jax.tree.map(lambda x: x.astype(jnp.float32), half))


def test_layers_of_different_types_lose_nothing(huggingface):
    name = "vision_model.encoder.layers.{}.mlp.fc1.weight"
    edit_tensors(huggingface, **{name.format(0).replace(".", "__"): lambda x: x.astype(ml_dtypes.bfloat16)})
    kernel = load(huggingface, dtype=None)[1]["vision"]["blocks"]["mlp"]["fc1"]["kernel"]
    assert np.array_equal(kernel[1], PARAMS["vision"]["blocks"]["mlp"]["fc1"]["kernel"][1])


def test_numbers_too_large_for_the_type_are_refused_by_name(huggingface):
    edit_tensors(huggingface, text_projection__weight=lambda x: x + np.float32(1e6))
    message = refusal(huggingface, dtype="float16")
    assert "text_projection.weight holds numbers too large for float16" in message
    assert np.isfinite(load(huggingface)[1]["text_projection"]["kernel"]).all()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"visual_projection__weight": None}, "missing visual_projection.weight"),
        ({"text_model__adapter__weight": lambda _: np.zeros(3, np.float32)}, "unexpected text_model.adapter.weight"),
        (
            {"visual_projection__weight": lambda x: x.T},
            "visual_projection.weight has shape [128, 16], the configuration asks for [16, 128]",
        ),
        (
            {"text_model__encoder__layers__2__mlp__fc1__bias": lambda x: x[1:]},
            "text_model.encoder.layers.2.mlp.fc1.bias has shape [39], the configuration asks for [40]",
        ),
        ({"text_projection__weight": lambda x: x.astype(np.int32)}, "text_projection.weight is stored as int32"),
        ({"text_projection__weight": lambda x: np.where(x == x[3, 3], np.nan, x)}, "text_projection.weight holds NaN"),
        (
            {"vision_model__encoder__layers__1__self_attn__k_proj__weight": lambda x: x / np.float32(0)},
            "vision_model.encoder.layers.1.self_attn.k_proj.weight holds NaN or infinite numbers",
        ),
    ],
    ids=["missing", "unexpected", "transposed", "one-layer", "integers", "nan", "infinite"],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_tensor_that_does_not_fit_is_refused_by_name(huggingface, changes, complaint):
    edit_tensors(huggingface, **changes)
    message = refusal(huggingface)
    assert complaint in message
    assert str(huggingface / "model.safetensors") in message


def test_long_lists_of_missing_tensors_are_cut_short(huggingface):
    edit_tensors(
        huggingface, **{n.replace(".", "__"): None for n in load_file(huggingface / "model.safetensors") if "fc" in n}
    )
    assert "missing text_model.encoder.layers.0.mlp.fc1.bias, " in refusal(huggingface)
    assert " and 17 more" in refusal(huggingface)


def test_state_dict_that_does_not_fit_is_refused_by_name(written, tmp_path):
    tensors = {name: stored.read() for name, stored in read_torch_archive(written / "openai-state-dict").items()}
    name = "visual.transformer.resblocks.1.attn.in_proj_weight"
    tensors[name] = tensors[name][:-1]
    write_torch_archive(tmp_path / "short.pt", tensors)
    message = refusal(tmp_path / "short.pt")
    assert f"short.pt: {name} has shape [383, 128], the configuration asks for [384, 128]" in message


def test_weights_of_another_size_than_the_configuration_says_are_refused(huggingface):
    edit_config(huggingface, projection_dim=20)
    assert "asks for [20, 24]" in refusal(huggingface) or "asks for [20, 128]" in refusal(huggingface)


def test_config_that_is_no_json_is_refused(huggingface):
    (huggingface / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json: not valid JSON"):
        load(huggingface)


def test_configuration_of_one_tower_for_weights_of_two_is_refused(written):
    config = CLIPConfig(None, PLAIN_TEXT, 16)
    with pytest.raises(ClipjaxError, match="openai-state-dict"):
        load(written / "openai-state-dict", config=config)


def test_configuration_with_a_resnet_for_huggingface_weights_is_refused(huggingface):
    with pytest.raises(ClipjaxError, match="ResNet"):
        load(huggingface, config=CLIPConfig(RESNET, PLAIN_TEXT, 16))


def test_memory_that_does_not_suffice_is_explained(huggingface, monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr("clipjax.weights.load.assemble", exhausted)
    with pytest.raises(CheckpointError, match="does not fit into memory; try dtype='bfloat16'"):
        load(huggingface)
